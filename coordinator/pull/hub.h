/* hub: what a repository of the Hugging Face hub holds, and which of its files make a model.
 *
 * A source is written "hf:ORG/REPO", with "@REVISION" and ":QUANT" behind it
 * where they matter; "hf.co/", "huggingface.co/" and whole addresses of the hub
 * are taken too.  A listing is of one commit, so that all files belong together.
 * What the hub says is untrusted: names that lead out of a folder are refused,
 * and every list has an end.                                                  */
#ifndef COORDINATOR_PULL_HUB_H
#define COORDINATOR_PULL_HUB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "net/http_client.h"

enum {
    HUB_FILES_MAX = 200000,
    HUB_PAGE_MAX = 32 << 20,   /* bytes of one page of a listing */
    HUB_PAGES_MAX = 1000,
    HUB_INDEX_MAX = 64 << 20,  /* bytes of a safetensors index */
    HUB_QUANT_MAX = 127,
};

struct hub_source {
    char repo[200];         /* "Qwen/Qwen3-0.6B-GGUF" */
    char revision[128];     /* "main" */
    char quant[HUB_QUANT_MAX + 1]; /* as the user wrote it; "": none */
};

struct hub_file {
    char *path; /* in the repository */
    uint64_t bytes;
    char sha256[65]; /* "": the hub does not say (a small file) */
};

struct hub_listing {
    struct hub_source source;
    char commit[128];
    struct hub_file *files;
    size_t n, room;
};

/* The files of a model, in the order in which they are fetched. */
struct hub_choice {
    size_t *files; /* of the listing */
    size_t n;
    bool gguf;     /* else safetensors */
    char quant[HUB_QUANT_MAX + 1]; /* "Q4_K_M"; "": its name says none */
};

bool hub_is_source(const char *text); /* it begins as one */
MUST_USE int hub_source_parse(struct hub_source *out, const char *text, struct error *e);

/* SHOAL_HUB, HF_ENDPOINT or https://huggingface.co, with the token of HF_TOKEN. */
MUST_USE int hub_open(struct http_client **out, bool (*stop)(void *arg), void *arg, struct error *e);
MUST_USE int hub_list(struct hub_listing *out, struct http_client *c, const struct hub_source *source, struct error *e);
/* One page of a tree, as the hub gives it, is added to the listing. */
MUST_USE int hub_add_page(struct hub_listing *l, const char *text, size_t n, struct error *e);
void hub_listing_close(struct hub_listing *l);
/* Where a file is fetched from. Caller frees. */
char *hub_url(const struct http_client *c, const struct hub_listing *l, size_t file);
/* The words of a refusal become those that help: gated, private, not there. Returns r. */
int hub_explain(int r, const struct http_client *c, const struct hub_source *s, struct error *e);

/* The label in a GGUF file's path, upper case ("Q4_K_M", "UD-Q4_K_XL", "BF16"); "" when it has none. */
void hub_quant_of(const char *path, char quant[static HUB_QUANT_MAX + 1]);
/* Which files: of GGUF those of the quant, or the first of a fixed order that is there, all splits of it; without any
 * GGUF the safetensors with their configuration and tokenizer. `index`: the text of model.safetensors.index.json where
 * there is one (hub_index_of), else NULL. ERR_NOT_FOUND and ERR_CONFLICT say what there is. */
MUST_USE int hub_choose(struct hub_choice *out, const struct hub_listing *l, const char *index, struct error *e);
/* The file whose text hub_choose() needs; SIZE_MAX: none. */
size_t hub_index_of(const struct hub_listing *l);
void hub_choice_close(struct hub_choice *c);
const char *hub_file_name(const struct hub_file *f); /* without folders */

#endif
