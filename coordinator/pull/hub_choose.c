/* hub_choose: from a list of files to those of one model, by names as people write them. */
#include <ctype.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/memory.h"
#include "coordinator/pull/hub.h"
#include "shard/format/gguf.h"

#define INDEX "model.safetensors.index.json"
#define SINGLE "model.safetensors"

/* Taken in this order where nobody says which: small enough, good enough, and read by this version. */
static const char *const usual[] = {
    "Q4_K_M", "UD-Q4_K_XL", "MXFP4", "Q4_K_S", "Q4_K", "Q4_0", "IQ4_XS", "IQ4_NL", "Q5_K_M", "Q5_K_S", "Q5_0", "Q6_K",
    "Q8_0", "Q3_K_M", "Q3_K_L", "Q3_K_S", "Q2_K", "BF16", "F16", "FP16", "F32",
};

/* Beside the safetensors of a folder, where they are there. */
static const char *const sides[] = {
    "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt", "tokenizer.model", "chat_template.jinja", "chat_template.json",
};

/* ---- labels ---- */

/* Bytes of a label that begins here: "Q4_K_M", "IQ4_XS", "BF16"; 0: none does. */
static size_t label_at(const char *p)
{
    static const char *const words[] = {"BF16", "FP16", "F16", "FP32", "F32", "MXFP4", "NVFP4"};
    size_t n = 0;
    for (size_t i = 0; i < COUNTOF(words); i++)
        if (strncasecmp(p, words[i], strlen(words[i])) == 0)
            n = strlen(words[i]);
    size_t k = strncasecmp(p, "IQ", 2) == 0 || strncasecmp(p, "TQ", 2) == 0 ? 2 : toupper((unsigned char)*p) == 'Q';
    if (n == 0 && k > 0 && isdigit((unsigned char)p[k]))
        n = k + 1;
    if (n == 0)
        return 0;
    while (isalnum((unsigned char)p[n]) || (p[n] == '_' && isalnum((unsigned char)p[n + 1])))
        n++;
    return n;
}

/* The last label of a text of n bytes. */
static bool last_label(const char *text, size_t n, char quant[static HUB_QUANT_MAX + 1])
{
    char *copy = mem_strndup(text, n);
    bool found = false;
    for (size_t i = 0; i < n; i++) {
        size_t len = i == 0 || !isalnum((unsigned char)copy[i - 1]) ? label_at(copy + i) : 0;
        if (len == 0 || len + 3 > HUB_QUANT_MAX)
            continue;
        bool dynamic = i >= 3 && strncasecmp(copy + i - 3, "UD-", 3) == 0 &&
                       (i == 3 || !isalnum((unsigned char)copy[i - 4]));
        snprintf(quant, HUB_QUANT_MAX + 1, "%s%.*s", dynamic ? "UD-" : "", (int)len, copy + i);
        found = true;
        i += len - 1;
    }
    for (char *p = quant; found && *p; p++)
        *p = (char)toupper((unsigned char)*p);
    mem_free(copy);
    return found;
}

/* Bytes of a GGUF path without ".gguf" and the number of a split. */
static size_t stem_bytes(const char *path)
{
    size_t prefix;
    uint32_t number, count;
    return gguf_split_name(path, &prefix, &number, &count) ? prefix : strlen(path) - strlen(".gguf");
}

void hub_quant_of(const char *path, char quant[static HUB_QUANT_MAX + 1])
{
    size_t n = stem_bytes(path);
    const char *slash = memrchr(path, '/', n), *name = slash ? slash + 1 : path;
    quant[0] = 0;
    if (!last_label(name, n - (size_t)(name - path), quant) && slash)
        (void)last_label(path, (size_t)(slash - path), quant);
}

const char *hub_file_name(const struct hub_file *f)
{
    const char *slash = strrchr(f->path, '/');
    return slash ? slash + 1 : f->path;
}

/* ---- GGUF ---- */

/* One model: a file, or the splits of one. */
struct group {
    size_t first; /* file of the listing: the first split */
    size_t stem;  /* bytes of its path */
    uint32_t count;
    char quant[HUB_QUANT_MAX + 1];
};

struct groups {
    struct group *at;
    size_t n;
};

/* A model's GGUF and no vision part, adapter's or importance's. */
static bool is_model_gguf(const struct hub_file *f)
{
    const char *name = hub_file_name(f);
    size_t n = strlen(name);
    return n > 5 && strcasecmp(name + n - 5, ".gguf") == 0 && name[0] != '.' && strncasecmp(name, "mmproj", 6) != 0 &&
           !strcasestr(name, "imatrix") && !strcasestr(name, "-mmproj");
}

/* Only first splits begin a group. */
static struct groups group_files(const struct hub_listing *l)
{
    struct groups g = {mem_array(l->n + 1, sizeof(*g.at)), 0};
    for (size_t i = 0; i < l->n; i++) {
        size_t prefix;
        uint32_t number = 1, count = 1;
        if (!is_model_gguf(&l->files[i]))
            continue;
        bool split = gguf_split_name(l->files[i].path, &prefix, &number, &count);
        if (split && number != 1)
            continue;
        struct group *one = &g.at[g.n++];
        *one = (struct group){.first = i, .stem = stem_bytes(l->files[i].path), .count = split ? count : 1};
        hub_quant_of(l->files[i].path, one->quant);
    }
    return g;
}

/* `word` stands in the path's last part, with nothing of a word beside it. */
static bool stands_in(const struct hub_listing *l, const struct group *g, const char *word)
{
    char *path = mem_strndup(l->files[g->first].path, g->stem);
    bool found = false;
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    for (const char *p = name; !found && (p = strcasestr(p, word)); p++) {
        char after = p[strlen(word)];
        found = (p == name || !isalnum((unsigned char)p[-1])) && !isalnum((unsigned char)after) && after != '_';
    }
    mem_free(path);
    return found;
}

/* 3: it is its label; 2: it is its name; 1: it stands in it; 0: none of them. */
static int match(const struct hub_listing *l, const struct group *g, const char *quant)
{
    const char *name = hub_file_name(&l->files[g->first]);
    size_t n = g->stem - (size_t)(name - l->files[g->first].path);
    if (strcasecmp(g->quant, quant) == 0)
        return 3;
    if ((strlen(quant) == n && strncasecmp(name, quant, n) == 0) || strcasecmp(name, quant) == 0)
        return 2;
    return stands_in(l, g, quant);
}

static void list_groups(const struct hub_listing *l, const struct groups *g, const char *quant, int at_least,
                        char text[static 300])
{
    size_t used = 0, named = 0;
    text[0] = 0;
    for (size_t i = 0; i < g->n && used < 200; i++) {
        if (at_least > 0 && match(l, &g->at[i], quant) < at_least)
            continue;
        const char *name = hub_file_name(&l->files[g->at[i].first]);
        bool label = at_least == 0 && g->at[i].quant[0];
        int n = snprintf(text + used, 300 - used, "%s%.*s", named++ ? ", " : "",
                         label ? HUB_QUANT_MAX : (int)(g->at[i].stem - (size_t)(name - l->files[g->at[i].first].path)),
                         label ? g->at[i].quant : name);
        used += n > 0 ? (size_t)n : 0;
    }
}

/* The one that fits best; SIZE_MAX with the sentence. */
static size_t find_group(const struct hub_listing *l, const struct groups *g, const char *quant, bool asked,
                         struct error *e)
{
    int best = 1;
    size_t chosen = SIZE_MAX, fits = 0;
    char text[300];
    for (size_t i = 0; i < g->n; i++) {
        int m = match(l, &g->at[i], quant);
        if (m > best) {
            best = m;
            fits = 0;
        }
        if (m != best)
            continue;
        chosen = i;
        fits++;
    }
    if (fits == 1)
        return chosen;
    if (fits > 1) {
        list_groups(l, g, quant, best, text);
        (void)error_set(e, ERR_CONFLICT, "%s has several files for %s: write one's name behind the colon: %s",
                        l->source.repo, quant, text);
    } else if (asked) {
        list_groups(l, g, quant, 0, text);
        (void)error_set(e, ERR_NOT_FOUND, "%s has no GGUF file for \"%s\"; there is %s", l->source.repo, quant, text);
    }
    return SIZE_MAX;
}

static size_t usual_group(const struct hub_listing *l, const struct groups *g, struct error *e)
{
    char text[300];
    if (g->n == 1)
        return 0;
    for (size_t i = 0; i < COUNTOF(usual); i++)
        for (size_t k = 0; k < g->n; k++)
            if (strcasecmp(g->at[k].quant, usual[i]) == 0)
                return find_group(l, g, usual[i], false, e);
    list_groups(l, g, "", 0, text);
    (void)error_set(e, ERR_CONFLICT, "%s has several GGUF files: write one's name behind a colon: %s", l->source.repo,
                    text);
    return SIZE_MAX;
}

static int take_group(struct hub_choice *out, const struct hub_listing *l, const struct group *g, struct error *e)
{
    const char *first = l->files[g->first].path;
    out->gguf = true;
    snprintf(out->quant, sizeof(out->quant), "%s", g->quant);
    if (g->count > GGUF_SPLITS_MAX)
        return error_set(e, ERR_LIMIT, "%s: %.200s is one of too many files", l->source.repo, first);
    out->files = mem_array(g->count, sizeof(*out->files));
    for (uint32_t i = 0; i < g->count; i++) {
        char *path = i == 0 ? mem_strdup(first)
                            : mem_printf("%.*s-%05u-of-%05u.gguf", (int)g->stem, first, i + 1, g->count);
        size_t k = 0;
        while (k < l->n && strcmp(l->files[k].path, path) != 0)
            k++;
        if (k < l->n)
            out->files[out->n++] = k;
        mem_free(path);
        if (k == l->n)
            return error_set(e, ERR_NOT_FOUND, "%s: file %u of %u of %.200s is not in the repository", l->source.repo,
                             i + 1, g->count, first);
    }
    return 0;
}

/* ---- safetensors ---- */

static size_t find_file(const struct hub_listing *l, const char *path)
{
    for (size_t i = 0; i < l->n; i++)
        if (strcmp(l->files[i].path, path) == 0)
            return i;
    return SIZE_MAX;
}

size_t hub_index_of(const struct hub_listing *l)
{
    for (size_t i = 0; i < l->n; i++)
        if (is_model_gguf(&l->files[i]))
            return SIZE_MAX;
    return find_file(l, INDEX);
}

static void take(struct hub_choice *out, size_t file)
{
    for (size_t i = 0; i < out->n; i++)
        if (out->files[i] == file)
            return;
    out->files = mem_resize(out->files, out->n + 1, sizeof(*out->files));
    out->files[out->n++] = file;
}

/* Every file that the index names, in the listing's order. */
static int take_indexed(struct hub_choice *out, const struct hub_listing *l, const char *index, struct error *e)
{
    json_t *j = json_loads(index, 0, NULL), *map = json_object_get(j, "weight_map"), *value, *places = json_object();
    const char *key;
    bool *named = mem_array(l->n, sizeof(*named));
    int r = json_object_size(map) > 0 ? 0 : error_set(e, ERR_CORRUPT, "%s: " INDEX " has no weight_map",
                                                      l->source.repo);
    for (size_t i = 0; i < l->n; i++)
        if (!strchr(l->files[i].path, '/'))
            json_object_set_new(places, l->files[i].path, json_integer((json_int_t)i));
    json_object_foreach(map, key, value) {
        const char *name = json_string_value(value);
        const json_t *place = name ? json_object_get(places, name) : NULL;
        if (r == 0 && !place)
            r = error_set(e, ERR_NOT_FOUND, "%s: " INDEX " names %.100s, which is not in the repository",
                          l->source.repo, name ? name : "no file");
        if (r == 0)
            named[json_integer_value(place)] = true;
    }
    out->files = mem_resize(out->files, out->n + l->n, sizeof(*out->files));
    for (size_t i = 0; r == 0 && i < l->n; i++)
        if (named[i])
            out->files[out->n++] = i;
    mem_free(named);
    json_decref(places);
    json_decref(j);
    return r;
}

static int choose_safetensors(struct hub_choice *out, const struct hub_listing *l, const char *index, struct error *e)
{
    size_t config = find_file(l, "config.json"), single = find_file(l, SINGLE), indexed = find_file(l, INDEX);
    if (config == SIZE_MAX || (single == SIZE_MAX && indexed == SIZE_MAX))
        return error_set(e, ERR_NOT_FOUND, "%s holds no model that this version reads: no GGUF file, and no "
                                           "config.json with safetensors", l->source.repo);
    if (l->source.quant[0])
        return error_set(e, ERR_NOT_FOUND, "%s has no GGUF file for \"%s\": it holds safetensors, which have one type; "
                                           "shoal quantize makes others", l->source.repo, l->source.quant);
    take(out, config);
    for (size_t i = 0; i < COUNTOF(sides); i++) {
        size_t file = find_file(l, sides[i]);
        if (file != SIZE_MAX)
            take(out, file);
    }
    if (indexed == SIZE_MAX) {
        take(out, single);
        return 0;
    }
    if (!index)
        return error_set(e, ERR_NOT_FOUND, "%s: " INDEX " could not be read", l->source.repo);
    take(out, indexed);
    return take_indexed(out, l, index, e);
}

int hub_choose(struct hub_choice *out, const struct hub_listing *l, const char *index, struct error *e)
{
    struct groups g = group_files(l);
    const char *quant = l->source.quant;
    int r;
    *out = (struct hub_choice){0};
    if (g.n == 0) {
        r = choose_safetensors(out, l, index, e);
    } else {
        struct error why = {0};
        size_t i = quant[0] ? find_group(l, &g, quant, true, &why) : usual_group(l, &g, &why);
        r = i == SIZE_MAX ? error_set(e, why.status, "%s", why.text) : take_group(out, l, &g.at[i], e);
    }
    mem_free(g.at);
    if (r != 0)
        hub_choice_close(out);
    return r;
}

void hub_choice_close(struct hub_choice *c)
{
    mem_free(c->files);
    *c = (struct hub_choice){0};
}
