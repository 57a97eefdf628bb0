/* source_hf: tokenizer.json and the small files beside it. */
#include "text/source_hf.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/path.h"
#include "text/vocab.h"

enum { JSON_BYTES_MAX = 256 << 20, SMALL_BYTES_MAX = 16 << 20 };

struct hf {
    char *path, *jinja, *tool_jinja;
    json_t *tokenizer, *config, *generation;
};

static void hf_close(void *owner)
{
    struct hf *h = owner;
    json_decref(h->tokenizer);
    json_decref(h->config);
    json_decref(h->generation);
    mem_free(h->path);
    mem_free(h->jinja);
    mem_free(h->tool_jinja);
    mem_free(h);
}

/* ---- files ---- */

/* An object; *out NULL where the file is not there and need not be. */
static int load(const char *folder, const char *name, size_t bytes_max, bool optional, json_t **out, struct error *e)
{
    char *path = path_join(folder, name), *data;
    size_t len;
    json_error_t wrong;
    int status = 0;
    *out = NULL;
    if (optional && !path_exists(path)) {
        mem_free(path);
        return 0;
    }
    status = path_read(path, bytes_max, &data, &len, e);
    if (status == 0) {
        *out = json_loadb(data, len, JSON_ALLOW_NUL, &wrong);
        mem_free(data);
        if (!json_is_object(*out))
            status = error_set(e, ERR_CORRUPT, "%s: %s", path, *out ? "is no object" : wrong.text);
    }
    mem_free(path);
    return status;
}

static int load_template(const char *folder, const char *name, char **out, struct error *e)
{
    char *path = path_join(folder, name);
    size_t len;
    int status = path_exists(path) ? path_read(path, SOURCE_TEMPLATE_MAX, out, &len, e) : 0;
    mem_free(path);
    return status;
}

static int load_all(struct hf *h, const char *folder, struct error *e)
{
    int status = load(folder, "tokenizer.json", JSON_BYTES_MAX, false, &h->tokenizer, e);
    if (status == 0)
        status = load(folder, "tokenizer_config.json", SMALL_BYTES_MAX, true, &h->config, e);
    if (status == 0)
        status = load(folder, "generation_config.json", SMALL_BYTES_MAX, true, &h->generation, e);
    if (status == 0)
        status = load_template(folder, "chat_template.jinja", &h->jinja, e);
    if (status == 0)
        status = load_template(folder, "additional_chat_templates/tool_use.jinja", &h->tool_jinja, e);
    return status;
}

/* ---- tokens ---- */

static int count_id(struct source *s, const json_t *id, struct error *e)
{
    json_int_t n = json_integer_value(id);
    if (!json_is_integer(id) || n < 0 || n >= SOURCE_TOKENS_MAX)
        return error_set(e, ERR_CORRUPT, "%s: a token's id is not a number from 0 to %d", s->where,
                         SOURCE_TOKENS_MAX - 1);
    if ((uint32_t)n >= s->n_tokens)
        s->n_tokens = (uint32_t)n + 1;
    return 0;
}

static int make_tokens(struct source *s, json_t *vocab, const json_t *added, struct error *e)
{
    const char *key;
    json_t *id;
    size_t i;
    int status = 0;
    json_object_foreach(vocab, key, id)
        if (status == 0)
            status = count_id(s, id, e);
    for (i = 0; i < json_array_size(added) && status == 0; i++)
        status = count_id(s, json_object_get(json_array_get(added, i), "id"), e);
    if (status != 0)
        return status;
    if (json_is_array(vocab) && json_array_size(vocab) > s->n_tokens && json_array_size(vocab) < SOURCE_TOKENS_MAX)
        s->n_tokens = (uint32_t)json_array_size(vocab);
    if (s->n_tokens == 0)
        return error_set(e, ERR_CORRUPT, "%s: the vocabulary is empty", s->where);
    s->tokens = mem_array(s->n_tokens, sizeof(*s->tokens));
    for (i = 0; i < s->n_tokens; i++)
        s->tokens[i] = (struct source_token){{"", 0}, 0, VOCAB_UNUSED};
    return 0;
}

static struct source_text text_of(const json_t *string)
{
    return (struct source_text){json_string_value(string), json_string_length(string)};
}

static void put_token(struct source *s, uint32_t id, struct source_text text, double score, bool bytes)
{
    bool byte = bytes && text.len == 6 && memcmp(text.text, "<0x", 3) == 0;
    s->tokens[id] = (struct source_token){text, (float)score, byte ? VOCAB_BYTE : VOCAB_PLAIN};
}

static int read_unigram(struct source *s, const json_t *vocab, bool bytes, struct error *e)
{
    for (size_t i = 0; i < json_array_size(vocab); i++) {
        const json_t *pair = json_array_get(vocab, i);
        const json_t *text = json_array_get(pair, 0), *score = json_array_get(pair, 1);
        if (i >= s->n_tokens || !json_is_string(text) || !json_is_number(score))
            return error_set(e, ERR_CORRUPT, "%s: entry %zu of the vocabulary is no text and score", s->where, i);
        put_token(s, (uint32_t)i, text_of(text), json_number_value(score), bytes);
    }
    return 0;
}

static void read_vocab(struct source *s, json_t *vocab, bool bytes)
{
    const char *key;
    json_t *id;
    json_object_foreach(vocab, key, id)
        put_token(s, (uint32_t)json_integer_value(id), (struct source_text){key, strlen(key)}, 0, bytes);
}

/* Added tokens are recognised in raw text; those that the vocabulary has too may also come from merges. */
static int read_added(struct source *s, const json_t *added, struct error *e)
{
    static const struct {
        const char *key;
        uint16_t flag;
    } marks[] = {{"lstrip", VOCAB_LSTRIP}, {"rstrip", VOCAB_RSTRIP}};
    for (size_t i = 0; i < json_array_size(added); i++) {
        const json_t *one = json_array_get(added, i);
        struct source_token *t = &s->tokens[json_integer_value(json_object_get(one, "id"))];
        struct source_text text = hf_text(one, "content");
        if (!text.text)
            return error_set(e, ERR_CORRUPT, "%s: added token %zu has no content", s->where, i);
        bool same = (t->flags & VOCAB_PLAIN) && t->text.len == text.len;
        same = same && memcmp(t->text.text, text.text, text.len) == 0;
        t->text = text;
        t->flags = json_is_true(json_object_get(one, "special")) ? VOCAB_CONTROL : VOCAB_USER;
        if (same && (t->flags & VOCAB_USER))
            t->flags |= VOCAB_PLAIN;
        if ((t->flags & VOCAB_USER) && json_is_true(json_object_get(one, "normalized")))
            t->flags |= VOCAB_LATE;
        for (size_t k = 0; k < COUNTOF(marks); k++)
            if (json_is_true(json_object_get(one, marks[k].key)))
                t->flags |= marks[k].flag;
    }
    return 0;
}

/* "left right" or ["left", "right"]. */
static int read_merges(struct source *s, const json_t *merges, struct error *e)
{
    size_t n = json_array_size(merges);
    if (!json_is_array(merges) || n > SOURCE_MERGES_MAX)
        return error_set(e, ERR_CORRUPT, "%s: no list of at most %d merges", s->where, SOURCE_MERGES_MAX);
    s->merges = mem_array(n, sizeof(*s->merges));
    s->n_merges = (uint32_t)n;
    for (size_t i = 0; i < n; i++) {
        const json_t *one = json_array_get(merges, i);
        struct source_text a = text_of(one), b = a;
        const char *space = a.len > 2 ? memchr(a.text + 1, ' ', a.len - 1) : NULL;
        if (json_is_array(one)) {
            a = text_of(json_array_get(one, 0));
            b = text_of(json_array_get(one, 1));
        } else if (space) {
            b = (struct source_text){space + 1, a.len - (size_t)(space - a.text) - 1};
            a.len = (size_t)(space - a.text);
        } else {
            a.text = NULL;
        }
        if (!a.text || !b.text)
            return error_set(e, ERR_CORRUPT, "%s: merge %zu is not of two texts", s->where, i);
        s->merges[i] = (struct source_merge){a, b};
    }
    return 0;
}

static int32_t find_token(const struct source *s, struct source_text text)
{
    for (uint32_t id = 0; text.text && id < s->n_tokens; id++)
        if (s->tokens[id].text.len == text.len && memcmp(s->tokens[id].text.text, text.text, text.len) == 0)
            return (int32_t)id;
    return -1;
}

static bool is_byte_level(const json_t *step)
{
    const json_t *list = json_object_get(step, "pretokenizers");
    for (size_t i = 0; i < json_array_size(list); i++)
        if (hf_text_is(hf_text(json_array_get(list, i), "type"), "ByteLevel"))
            return true;
    return hf_text_is(hf_text(step, "type"), "ByteLevel");
}

static int read_kind(struct source *s, const struct hf *h, const json_t *model, struct error *e)
{
    struct source_text type = hf_text(model, "type");
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    if (hf_text_is(type, "Unigram"))
        s->kind = SOURCE_UNIGRAM;
    else if (hf_text_is(type, "BPE") || (!type.text && json_object_get(model, "merges")))
        s->kind = is_byte_level(json_object_get(h->tokenizer, "pre_tokenizer")) ? SOURCE_BYTES : SOURCE_CHARS;
    else
        return error_set(e, ERR_UNSUPPORTED, "%s: tokenizers of the kind '%.*s' are not supported (BPE and Unigram "
                         "are)", s->where, type.len > 64 ? 64 : (int)type.len, type.text ? type.text : "");
    for (size_t i = 0; i < COUNTOF(affixes); i++)
        if (hf_text(model, affixes[i]).len > 0)
            return error_set(e, ERR_UNSUPPORTED, "%s: a BPE with a %s is not supported", s->where, affixes[i]);
    return 0;
}

static int read_model(struct source *s, const struct hf *h, struct error *e)
{
    const json_t *model = json_object_get(h->tokenizer, "model");
    const json_t *added = json_object_get(h->tokenizer, "added_tokens"), *unknown = json_object_get(model, "unk_id");
    json_t *vocab = json_object_get(model, "vocab");
    bool bytes = json_is_true(json_object_get(model, "byte_fallback"));
    int status = read_kind(s, h, model, e);
    if (status == 0)
        status = make_tokens(s, vocab, added, e);
    if (status != 0)
        return status;
    s->whole_first = json_is_true(json_object_get(model, "ignore_merges"));
    s->fuse_unknown = json_is_true(json_object_get(model, "fuse_unk"));
    if (s->kind == SOURCE_UNIGRAM) {
        json_int_t id = json_is_integer(unknown) ? json_integer_value(unknown) : -1;
        s->unknown = id >= 0 && id < s->n_tokens ? (int32_t)id : -1;
        status = read_unigram(s, vocab, bytes, e);
    } else {
        read_vocab(s, vocab, bytes);
        s->unknown = find_token(s, hf_text(model, "unk_token"));
        status = read_merges(s, json_object_get(model, "merges"), e);
    }
    if (status == 0 && s->unknown >= 0)
        s->tokens[s->unknown].flags = VOCAB_CONTROL;
    return status == 0 ? read_added(s, added, e) : status;
}

/* ---- what is put around a text ---- */

static int add_around(struct source *s, const json_t *template, struct source_text name, bool after, struct error *e)
{
    const json_t *special = json_object_get(json_object_get(template, "special_tokens"), name.text ? name.text : "");
    const json_t *ids = json_object_get(special, "ids");
    for (size_t i = 0; i < json_array_size(ids); i++) {
        json_int_t id = json_integer_value(json_array_get(ids, i));
        size_t *n = after ? &s->n_after : &s->n_before;
        if (id < 0 || id >= s->n_tokens || *n == SOURCE_AROUND_MAX)
            return error_set(e, ERR_CORRUPT, "%s: the post-processor's tokens are not in the vocabulary, or too many",
                             s->where);
        (after ? s->after : s->before)[(*n)++] = (int32_t)id;
    }
    return 0;
}

static int read_template(struct source *s, const json_t *post, int depth, struct error *e)
{
    const json_t *list = json_object_get(post, "processors"), *single = json_object_get(post, "single");
    bool after = false;
    int status = 0;
    for (size_t i = 0; i < json_array_size(list) && depth == 0 && status == 0; i++)
        status = read_template(s, json_array_get(list, i), 1, e);
    for (size_t i = 0; i < json_array_size(single) && status == 0; i++) {
        const json_t *one = json_array_get(single, i), *special = json_object_get(one, "SpecialToken");
        after = after || json_object_get(one, "Sequence");
        if (special)
            status = add_around(s, post, hf_text(special, "id"), after, e);
    }
    return status;
}

/* The name of a special token: a text, or an object with a content. */
static int32_t special_of(const struct source *s, const json_t *config, const char *key)
{
    struct source_text text = hf_text(config, key);
    return find_token(s, text.text ? text : hf_text(json_object_get(config, key), "content"));
}

/* tokenizer_config.json has the last word on BOS and EOS. */
static void override(const json_t *config, const char *key, int32_t id, int32_t *around, size_t *n)
{
    const json_t *add = json_object_get(config, key);
    if (json_is_false(add))
        *n = 0;
    else if (json_is_true(add) && id >= 0 && *n == 0)
        around[(*n)++] = id;
}

static void add_end(struct source *s, const json_t *id)
{
    json_int_t n = json_integer_value(id);
    if (json_is_integer(id) && n >= 0 && n < s->n_tokens && s->n_ends < SOURCE_ENDS_MAX)
        s->ends[s->n_ends++] = (int32_t)n;
}

static void read_ends(struct source *s, const json_t *generation)
{
    const json_t *eos = json_object_get(generation, "eos_token_id");
    add_end(s, eos);
    for (size_t i = 0; i < json_array_size(eos); i++)
        add_end(s, json_array_get(eos, i));
    if (s->eos >= 0 && s->n_ends < SOURCE_ENDS_MAX)
        s->ends[s->n_ends++] = s->eos;
}

/* A text, or a list of named ones: "default", and "tool_use" for conversations with tools. Files go before both. */
static int read_chat(struct source *s, const struct hf *h, struct error *e)
{
    const json_t *list = json_object_get(h->config, "chat_template");
    s->chat_template = hf_text(h->config, "chat_template");
    for (size_t i = 0; i < json_array_size(list); i++) {
        struct source_text name = hf_text(json_array_get(list, i), "name");
        if (hf_text_is(name, "default"))
            s->chat_template = hf_text(json_array_get(list, i), "template");
        if (hf_text_is(name, "tool_use"))
            s->tool_template = hf_text(json_array_get(list, i), "template");
    }
    if (h->jinja)
        s->chat_template = (struct source_text){h->jinja, strlen(h->jinja)};
    if (h->tool_jinja)
        s->tool_template = (struct source_text){h->tool_jinja, strlen(h->tool_jinja)};
    if (s->chat_template.len > SOURCE_TEMPLATE_MAX || s->tool_template.len > SOURCE_TEMPLATE_MAX)
        return error_set(e, ERR_LIMIT, "%s: a chat template has more than %d bytes", s->where, SOURCE_TEMPLATE_MAX);
    return 0;
}

int source_hf(struct source *s, const char *folder, struct error *e)
{
    struct hf *h = mem_alloc(sizeof(*h));
    source_init(s);
    h->path = path_join(folder, "tokenizer.json");
    s->owner = h;
    s->owner_close = hf_close;
    s->where = h->path;
    int status = load_all(h, folder, e);
    if (status == 0)
        status = hf_read_normalizer(s, json_object_get(h->tokenizer, "normalizer"), e);
    if (status == 0)
        status = hf_read_pretokenizer(s, json_object_get(h->tokenizer, "pre_tokenizer"), e);
    if (status == 0)
        status = read_model(s, h, e);
    if (status == 0)
        status = read_template(s, json_object_get(h->tokenizer, "post_processor"), 0, e);
    if (status == 0)
        status = read_chat(s, h, e);
    if (status != 0)
        return status;
    s->bos = special_of(s, h->config, "bos_token");
    s->eos = special_of(s, h->config, "eos_token");
    override(h->config, "add_bos_token", s->bos, s->before, &s->n_before);
    override(h->config, "add_eos_token", s->eos, s->after, &s->n_after);
    read_ends(s, h->generation);
    return 0;
}
