/* api_rig: the API over a fake engine. */
#ifndef TESTS_COORDINATOR_API_RIG_H
#define TESTS_COORDINATOR_API_RIG_H

#include "coordinator/api/api.h"
#include "tests/coordinator/fake.h"
#include "tests/coordinator/http_client.h"

#define RIG_MODEL "tests/data/shoal-demo-q8_0.gguf"
#define RIG_NAME "org/demo:q8" /* what it is served as */
#define RIG_ADMIN "0123456789abcdef"

struct rig {
    struct engine *engine;
    struct control *control;
    struct tokenizer *tokenizer;
    struct chat *chat;
    struct api *api;
    char *state_dir; /* of rig_start_with_keys() */
};

/* cmocka set-ups: open to all, and with the key "sk-test". */
int rig_start(void **state);
int rig_start_with_key(void **state);
/* Users' keys are kept in a new folder. */
int rig_start_with_keys(void **state);
/* Of a model with more keys, each with a token id, and with a tensor: its name NULL: none. */
struct rig_extra {
    const char *keys[8];
    uint32_t values[8];
    const char *text_key, *text; /* one more; NULL: none */
    const char *tensor;
    uint32_t rows; /* of 256 floats; value i is (i % 7) / 8.0 - 0.25 */
};
int rig_start_with(void **state, const struct rig_extra *extra);
int rig_stop(void **state);
/* model_extra.c: the path of such a copy; caller unlinks and frees. */
char *model_with(const char *from, const struct rig_extra *x);
/* The API stops and starts again on the same folder. */
int rig_restart(struct rig *r, const char *host, bool insecure, struct error *e);

/* The API stops and starts again with this chat template. */
void rig_template(struct rig *r, const char *source);

/* The script is the text's tokens, then <|im_end|>; the rest as `like`, which may be NULL. */
void rig_say(struct rig *r, const char *text, const struct fake_script *like);
/* The text's token ids, caller frees. */
struct token_list rig_tokens(const struct rig *r, const char *text);
int32_t rig_end_token(const struct rig *r);

/* http_call() to the rig's API. */
struct reply rig_call(const struct rig *r, const char *path, const char *body, const char *header);

/* A raw connection that has sent a POST of the body. */
int rig_post_raw(const struct rig *r, const char *path, const char *body);
/* A raw connection that has sent the text. */
int rig_send_raw(const struct rig *r, const char *text);
/* All that comes until its end, and closes it; caller frees. */
char *rig_read_raw(int fd);

#endif
