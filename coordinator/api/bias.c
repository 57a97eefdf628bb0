/* bias: see bias.h. */
#include "coordinator/api/bias.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BIAS_MAX = 100 };

static int bias_add(struct params *p, int64_t id, const json_t *value, const struct api *a, struct refusal *r)
{
    if (id < 0 || id >= a->n_vocab)
        return refuse(r, ERR_INVALID, "logit_bias", "logit_bias: \"%lld\" is no token id of this model (0 to %u)",
                      (long long)id, a->n_vocab - 1);
    double bias = json_is_number(value) ? json_number_value(value) : json_is_false(value) ? -BIAS_MAX : NAN;
    if (!(bias >= -BIAS_MAX && bias <= BIAS_MAX))
        return refuse(r, ERR_INVALID, "logit_bias",
                      "logit_bias: the bias of token %lld must be a number from -100 to 100, or false", (long long)id);
    if (p->n_bias == FRAME_BIAS_MAX)
        return refuse(r, ERR_LIMIT, "logit_bias", "logit_bias takes at most %d tokens", (int)FRAME_BIAS_MAX);
    p->bias[p->n_bias++] = (struct frame_bias){ .token = (int32_t)id, .bias = (float)bias };
    return 0;
}

static int read_object(struct params *p, json_t *map, const struct api *a, struct refusal *r)
{
    const char *key;
    json_t *value;
    json_object_foreach(map, key, value) {
        char *end;
        long long id = strtoll(key, &end, 10);
        if (key[0] < '0' || key[0] > '9' || *end != '\0')
            return refuse(r, ERR_INVALID, "logit_bias", "logit_bias: \"%.40s\" is no token id of this model (0 to %u)",
                          key, a->n_vocab - 1);
        int rc = bias_add(p, id, value, a, r);
        if (rc != 0)
            return rc;
    }
    return 0;
}

/* Each token of the text. */
static int add_text(struct params *p, const json_t *text, const json_t *value, const struct api *a, struct refusal *r)
{
    struct token_list list = { 0 };
    int rc = tokenizer_encode(a->options.tokenizer, json_string_value(text), json_string_length(text), 0, &list,
                              &r->error);
    for (size_t i = 0; i < list.count && rc == 0; i++)
        rc = bias_add(p, list.ids[i], value, a, r);
    token_list_free(&list);
    return rc;
}

static int read_pairs(struct params *p, const json_t *list, const struct api *a, struct refusal *r)
{
    const json_t *pair;
    size_t i;
    int rc = 0;
    json_array_foreach(list, i, pair) {
        const json_t *what = json_array_get(pair, 0), *value = json_array_get(pair, 1);
        if (json_array_size(pair) != 2 || !(json_is_integer(what) || json_is_string(what)))
            return refuse(r, ERR_INVALID, "logit_bias",
                          "logit_bias must be an object of token ids and numbers, or a list of such pairs");
        rc = json_is_string(what) ? add_text(p, what, value, a, r)
                                  : bias_add(p, json_integer_value(what), value, a, r);
        if (rc != 0)
            break;
    }
    return rc;
}

int bias_read(struct params *p, const json_t *bias, const struct api *a, struct refusal *r)
{
    if (bias == NULL || json_is_null(bias))
        return 0;
    if (json_is_object(bias))
        return read_object(p, (json_t *)(uintptr_t)bias, a, r);
    if (json_is_array(bias))
        return read_pairs(p, bias, a, r);
    return refuse(r, ERR_INVALID, "logit_bias", "logit_bias must be an object of token ids and numbers");
}
