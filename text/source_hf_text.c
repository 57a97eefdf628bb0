/* source_hf_text: what tokenizer.json says about text before it becomes tokens.
 *
 * A space spelled as U+2581 is a matter of the vocabulary's spelling here, so
 * the replacement of one by the other only says that this is so.             */
#include <string.h>

#include "base/memory.h"
#include "text/source_hf.h"

#define SPACE "\xE2\x96\x81"
/* What these published steps mean, as expressions. */
#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define PUNCTUATION "[\\p{P}!-/:-@\\[-`{-~]"

enum { DEPTH_MAX = 4 };

struct source_text hf_text(const json_t *object, const char *key)
{
    const json_t *text = json_object_get(object, key);
    return (struct source_text){json_string_value(text), json_string_length(text)};
}

bool hf_text_is(struct source_text text, const char *want)
{
    return text.text && text.len == strlen(want) && memcmp(text.text, want, text.len) == 0;
}

static int unsupported(const struct source *s, const char *what, struct source_text name, struct error *e)
{
    return error_set(e, ERR_UNSUPPORTED, "%s: the %s '%.*s' is not supported", s->where, what,
                     name.len > 64 ? 64 : (int)name.len, name.text ? name.text : "");
}

static bool truth(const json_t *object, const char *key, bool otherwise)
{
    const json_t *value = json_object_get(object, key);
    return json_is_boolean(value) ? json_is_true(value) : otherwise;
}

/* ---- normaliser ---- */

static int add_step(struct source *s, enum source_step_kind kind, struct source_text from, struct source_text to,
                    struct error *e)
{
    if (s->n_steps == SOURCE_STEPS_MAX)
        return error_set(e, ERR_LIMIT, "%s: the normaliser has more than %d steps", s->where, SOURCE_STEPS_MAX);
    s->steps[s->n_steps++] = (struct source_step){kind, from, to};
    return 0;
}

static int read_replace(struct source *s, const json_t *step, struct error *e)
{
    const json_t *pattern = json_object_get(step, "pattern");
    struct source_text from = hf_text(pattern, "String"), expression = hf_text(pattern, "Regex");
    struct source_text to = hf_text(step, "content");
    if (hf_text_is(from, " ") && hf_text_is(to, SPACE)) {
        s->spaces = true;
        return 0;
    }
    if (hf_text_is(expression, " {2,}") && (hf_text_is(to, " ") || hf_text_is(to, SPACE)))
        return add_step(s, STEP_SINGLE_SPACE, from, to, e);
    if (!from.text || !to.text || from.len == 0)
        return unsupported(s, "expression of a Replace", expression, e);
    return add_step(s, STEP_REPLACE, from, to, e);
}

static int base64_value(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* In place: the result is shorter, and the string is ours. */
static int read_charsmap(struct source *s, const json_t *step, struct error *e)
{
    struct source_text text = hf_text(step, "precompiled_charsmap");
    char *out = (char *)text.text;
    size_t n = 0;
    unsigned bits = 0;
    for (size_t i = 0; i < text.len && text.text[i] != '='; i++) {
        int value = base64_value(text.text[i]);
        if (value < 0)
            return error_set(e, ERR_CORRUPT, "%s: the table of replacements is not base64", s->where);
        bits = bits << 6 | (unsigned)value;
        if (i % 4 != 0)
            out[n++] = (char)(bits >> (6 - i % 4 * 2));
    }
    return n == 0 ? 0 : add_step(s, STEP_CHARSMAP, (struct source_text){out, n}, (struct source_text){"", 0}, e);
}

static int read_strip(struct source *s, const json_t *step, struct error *e)
{
    struct source_text none = {"", 0};
    int status = truth(step, "strip_left", true) ? add_step(s, STEP_TRIM_LEFT, none, none, e) : 0;
    return status == 0 && truth(step, "strip_right", true) ? add_step(s, STEP_TRIM_RIGHT, none, none, e) : status;
}

static int read_normalizer(struct source *s, const json_t *step, int depth, struct error *e)
{
    static const char *const forms[] = {"NFC", "NFD", "NFKC", "NFKD"};
    struct source_text type = hf_text(step, "type");
    const json_t *list = json_object_get(step, "normalizers"), *one;
    size_t i;
    int status = 0;
    if (!step || json_is_null(step))
        return 0;
    if (hf_text_is(type, "Sequence") && depth < DEPTH_MAX) {
        for (i = 0; i < json_array_size(list) && status == 0; i++) {
            one = json_array_get(list, i);
            status = read_normalizer(s, one, depth + 1, e);
        }
        return status;
    }
    for (i = 0; i < COUNTOF(forms); i++)
        if (hf_text_is(type, forms[i]))
            return add_step(s, (enum source_step_kind)(STEP_NFC + i), (struct source_text){"", 0},
                            (struct source_text){"", 0}, e);
    if (hf_text_is(type, "Prepend") && hf_text_is(hf_text(step, "prepend"), SPACE)) {
        s->prefix = PREFIX_ALWAYS;
        return 0;
    }
    if (hf_text_is(type, "Replace"))
        return read_replace(s, step, e);
    if (hf_text_is(type, "Strip"))
        return read_strip(s, step, e);
    if (hf_text_is(type, "Precompiled"))
        return read_charsmap(s, step, e);
    return unsupported(s, "normaliser", type, e);
}

int hf_read_normalizer(struct source *s, const json_t *normalizer, struct error *e)
{
    return read_normalizer(s, normalizer, 0, e);
}

/* ---- pre-tokenizer ---- */

static int add_split(struct source *s, struct source_split split, struct error *e)
{
    if (s->n_splits == SOURCE_SPLITS_MAX)
        return error_set(e, ERR_LIMIT, "%s: the pre-tokenizer has more than %d steps", s->where, SOURCE_SPLITS_MAX);
    s->splits[s->n_splits++] = split;
    return 0;
}

static int add_known(struct source *s, const char *pattern, enum source_behavior behavior, struct error *e)
{
    return add_split(s, (struct source_split){.pattern = {pattern, strlen(pattern)}, .behavior = behavior}, e);
}

static int read_split(struct source *s, const json_t *step, struct error *e)
{
    static const char *const names[] = {"Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"};
    const json_t *pattern = json_object_get(step, "pattern");
    struct source_split split = {.pattern = hf_text(pattern, "Regex"), .invert = truth(step, "invert", false)};
    struct source_text behavior = hf_text(step, "behavior");
    size_t i = 0;
    if (!split.pattern.text) {
        split.pattern = hf_text(pattern, "String");
        split.literal = true;
    }
    while (i < COUNTOF(names) && !hf_text_is(behavior, names[i]))
        i++;
    if (i == COUNTOF(names) || !split.pattern.text)
        return unsupported(s, "behavior of a Split", behavior, e);
    split.behavior = (enum source_behavior)(SPLIT_ISOLATED + i);
    /* Where spaces have become U+2581 there is none left to split at. */
    if (s->spaces && split.literal && hf_text_is(split.pattern, " "))
        return 0;
    if (s->spaces && split.literal && hf_text_is(split.pattern, SPACE))
        split.pattern = (struct source_text){" ", 1};
    return add_split(s, split, e);
}

static int read_byte_level(struct source *s, const json_t *step, struct error *e)
{
    if (truth(step, "add_prefix_space", true)) {
        if (s->n_splits > 0)
            return error_set(e, ERR_UNSUPPORTED, "%s: a space before every piece of bytes is not supported", s->where);
        s->prefix = PREFIX_MISSING;
    }
    return truth(step, "use_regex", true) ? add_known(s, GPT2, SPLIT_ISOLATED, e) : 0;
}

static int read_metaspace(struct source *s, const json_t *step, struct error *e)
{
    struct source_text scheme = hf_text(step, "prepend_scheme");
    s->spaces = true;
    s->prefix = truth(step, "add_prefix_space", true) ? PREFIX_MISSING : PREFIX_NONE;
    if (hf_text_is(scheme, "never"))
        s->prefix = PREFIX_NONE;
    else if (hf_text_is(scheme, "first"))
        s->prefix = PREFIX_FIRST;
    else if (scheme.text)
        s->prefix = PREFIX_MISSING;
    if (s->prefix == PREFIX_MISSING && s->n_splits > 0)
        s->prefix = PREFIX_PIECES;
    if (!hf_text_is(hf_text(step, "replacement"), SPACE))
        return unsupported(s, "replacement of a space", hf_text(step, "replacement"), e);
    return truth(step, "split", true) ? add_known(s, " ", SPLIT_WITH_NEXT, e) : 0;
}

static int read_step(struct source *s, const json_t *step, struct error *e)
{
    struct source_text type = hf_text(step, "type");
    if (hf_text_is(type, "Split"))
        return read_split(s, step, e);
    if (hf_text_is(type, "ByteLevel"))
        return read_byte_level(s, step, e);
    if (hf_text_is(type, "Metaspace"))
        return read_metaspace(s, step, e);
    if (hf_text_is(type, "Digits"))
        return add_known(s, truth(step, "individual_digits", false) ? "\\p{N}" : "\\p{N}+", SPLIT_ISOLATED, e);
    if (hf_text_is(type, "Punctuation") && hf_text_is(hf_text(step, "behavior"), "Isolated"))
        return add_known(s, PUNCTUATION, SPLIT_ISOLATED, e);
    if (hf_text_is(type, "WhitespaceSplit"))
        return add_known(s, "\\s+", SPLIT_REMOVED, e);
    return unsupported(s, "pre-tokenizer", type, e);
}

static int read_pretokenizer(struct source *s, const json_t *step, int depth, struct error *e)
{
    const json_t *list = json_object_get(step, "pretokenizers");
    int status = 0;
    if (!step || json_is_null(step))
        return 0;
    if (!hf_text_is(hf_text(step, "type"), "Sequence") || depth == DEPTH_MAX)
        return read_step(s, step, e);
    for (size_t i = 0; i < json_array_size(list) && status == 0; i++)
        status = read_pretokenizer(s, json_array_get(list, i), depth + 1, e);
    return status;
}

int hf_read_pretokenizer(struct source *s, const json_t *pre, struct error *e)
{
    return read_pretokenizer(s, pre, 0, e);
}
