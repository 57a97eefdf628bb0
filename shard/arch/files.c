/* files: which bytes of a model's files a range of layers is made of, where such files lie, and what cannot
 * be loaded because a file is not here.
 *
 * Of a file that is absent nobody knows what it holds.  Writers keep the order of
 * a model, though: what is for all layers at the front (and what belongs to the
 * head there or at the back), layers in between in turn.  So a file that is
 * absent can only hold what its neighbours leave open.  And splits say how many
 * tensors there are in all: where those that layers lack make up for it, nothing
 * else is absent.                                                               */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/memory.h"
#include "base/path.h"
#include "shard/arch/arch.h"
#include "shard/arch/hf.h"

/* ---- stretches ---- */

struct stretch_list {
    struct file_stretch *at;
    size_t n, room;
};

static void add_stretch(void *arg, const struct file_stretch *s)
{
    struct stretch_list *l = arg;
    if (l->n == l->room) {
        l->room = l->room ? 2 * l->room : 64;
        l->at = mem_resize(l->at, l->room, sizeof(*l->at));
    }
    l->at[l->n++] = *s;
}

static int compare_stretches(const void *a, const void *b)
{
    const struct file_stretch *x = a, *y = b;
    if (x->file != y->file)
        return x->file < y->file ? -1 : 1;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

void model_tensor_stretches(const struct model *m, const struct model_tensor *t,
                            void (*give)(void *arg, const struct file_stretch *s), void *arg)
{
    if (model_folder(m))
        hf_stretches(model_folder(m), (size_t)(t->info - gguf_tensor_at(model_file(m), 0)), give, arg);
    else
        give(arg, &(struct file_stretch){t->info->file, t->info->offset, t->info->bytes});
}

struct file_stretch *model_range_stretches(const struct model *m, const struct layer_range *r, size_t *n)
{
    struct stretch_list l = {0};
    for (size_t i = 0; i < model_tensor_count(m); i++)
        if (model_in_range(m, model_tensor_at(m, i), r))
            model_tensor_stretches(m, model_tensor_at(m, i), add_stretch, &l);
    if (l.n > 0)
        qsort(l.at, l.n, sizeof(*l.at), compare_stretches);
    *n = 0;
    for (size_t i = 0; i < l.n; i++) {
        struct file_stretch *last = *n ? &l.at[*n - 1] : NULL, *s = &l.at[i];
        if (!last || last->file != s->file || last->offset + last->bytes < s->offset)
            l.at[(*n)++] = *s;
        else if (s->offset + s->bytes > last->offset + last->bytes)
            last->bytes = s->offset + s->bytes - last->offset;
    }
    return l.at;
}

/* ---- places and names ---- */

char *model_locate(const char *path, const struct file_set_entry *entries, size_t n, size_t i)
{
    size_t prefix;
    uint32_t number, count;
    if (path_is_folder(path))
        return path_join(path, entries[i].name);
    if (n == 1)
        return mem_strdup(path);
    if (!gguf_split_name(path, &prefix, &number, &count) || count != n)
        return NULL;
    return mem_printf("%.*s-%05zu-of-%05zu.gguf", (int)prefix, path, i + 1, n);
}

static bool ends_gguf(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot && dot != name && strcasecmp(dot, ".gguf") == 0;
}

char *model_path_in(const char *folder, const struct file_set_entry *entries, size_t n)
{
    bool gguf = n > 0 && ends_gguf(entries[0].name);
    return gguf ? path_join(folder, entries[0].name) : mem_strdup(folder);
}

char *model_name_of(const char *path)
{
    size_t n = strlen(path), prefix;
    uint32_t number, count;
    while (n > 1 && path[n - 1] == '/')
        n--;
    char *whole = mem_strndup(path, n);
    const char *slash = strrchr(whole, '/'), *base = slash && slash[1] ? slash + 1 : whole;
    char *name;
    if (gguf_split_name(whole, &prefix, &number, &count))
        name = mem_strndup(base, prefix - (size_t)(base - whole));
    else
        name = mem_strndup(base, ends_gguf(base) ? (size_t)(strrchr(base, '.') - base) : strlen(base));
    mem_free(whole);
    return name;
}

/* ---- files that are not here ---- */

enum { BEFORE_LAYERS = -1, BEHIND_LAYERS = INT_MAX };

/* The layers of which files here have tensors. */
struct extent_of_file {
    int32_t first, last; /* first > last: none */
    bool any;            /* tensor */
};

static struct extent_of_file *extents_of_files(const struct model *m)
{
    size_t n = file_set_count(model_files(m));
    struct extent_of_file *files = mem_array(n, sizeof(*files));
    for (size_t i = 0; i < n; i++)
        files[i] = (struct extent_of_file){.first = BEHIND_LAYERS, .last = BEFORE_LAYERS};
    for (size_t i = 0; i < model_tensor_count(m); i++) {
        const struct model_tensor *t = model_tensor_at(m, i);
        struct stretch_list l = {0};
        model_tensor_stretches(m, t, add_stretch, &l);
        for (size_t k = 0; k < l.n; k++) {
            struct extent_of_file *f = &files[l.at[k].file];
            f->any = true;
            if (t->layer >= 0) {
                f->first = t->layer < f->first ? t->layer : f->first;
                f->last = t->layer > f->last ? t->layer : f->last;
            }
        }
        mem_free(l.at);
    }
    return files;
}

/* How many of the absent files can hold a tensor of the layer (or of either end), and the first of them; in any order,
 * that is all of them. */
static size_t count_holders(const struct model *m, const struct extent_of_file *files, int32_t layer, bool ordered,
                            size_t *first)
{
    const struct file_set *set = model_files(m);
    size_t n = file_set_count(set), holders = 0;
    for (size_t i = n; i-- > 0;) {
        int32_t low = BEFORE_LAYERS, high = BEHIND_LAYERS;
        for (size_t k = 0; k < i; k++)
            low = files[k].last > low ? files[k].last : low;
        for (size_t k = i + 1; k < n; k++)
            high = files[k].first < high ? files[k].first : high;
        if (file_set_has(set, i) || (ordered && (layer < low || layer > high)))
            continue;
        holders++;
        *first = i;
    }
    return holders;
}

static int refuse_absent(const struct model *m, const struct layer_range *r, const struct tensor_rule *rule,
                         int32_t layer, struct error *e)
{
    char name[GGUF_NAME_MAX + 1];
    struct extent_of_file *files = extents_of_files(m);
    bool front = rule->role == ROLE_EMBEDDING || rule->role >= ROLE_ROPE_FREQS;
    int32_t place = layer >= 0 ? layer : front ? BEFORE_LAYERS : BEHIND_LAYERS;
    size_t first = 0, holders = count_holders(m, files, place, true, &first);
    if (holders == 0)
        holders = count_holders(m, files, place, false, &first);
    mem_free(files);
    arch_tensor_name(rule->name, layer, name);
    const char *path = file_set_path(model_files(m), first);
    if (holders == 1)
        return error_set(e, ERR_NOT_FOUND, "layers %u-%u need tensor %s of %s, which is not here", r->first,
                         r->last - 1, name, path);
    return error_set(e, ERR_NOT_FOUND, "layers %u-%u need tensor %s, which is in one of %zu files that are not here, "
                                       "%s the first", r->first, r->last - 1, name, holders, path);
}

/* Layers are alike: what another one has, this one has too. */
static bool others_have(const struct model *m, enum role role)
{
    for (uint32_t i = 0; i < model_hparams(m)->n_layers; i++)
        if (model_tensor_find(m, role, (int32_t)i))
            return true;
    return false;
}

/* The first rule whose tensor the layer lacks, or NULL. */
static const struct tensor_rule *layer_lacks(const struct model *m, uint32_t layer)
{
    for (size_t i = 0; i < arch_rule_count(); i++) {
        const struct tensor_rule *rule = arch_rule_at(i);
        bool required;
        if (rule->role < ROLE_LAYER_COUNT && !model_tensor_find(m, rule->role, (int32_t)layer) &&
            arch_rule_applies(rule, model_hparams(m), (int32_t)layer, &required) &&
            (required || others_have(m, rule->role)))
            return rule;
    }
    return NULL;
}

static bool same_kind(const struct model *m, uint32_t a, uint32_t b)
{
    const struct hparams *h = model_hparams(m);
    bool same = true, required;
    for (size_t i = 0; same && i < arch_rule_count(); i++)
        same = arch_rule_at(i)->role >= ROLE_LAYER_COUNT ||
               arch_rule_applies(arch_rule_at(i), h, (int32_t)a, &required) ==
                   arch_rule_applies(arch_rule_at(i), h, (int32_t)b, &required);
    return same;
}

static size_t tensors_of_layer(const struct model *m, uint32_t layer)
{
    size_t n = 0;
    for (size_t i = 0; i < model_tensor_count(m); i++)
        n += model_tensor_at(m, i)->layer == (int32_t)layer && model_tensor_at(m, i)->part == 0;
    return n;
}

/* How many tensors are absent if layers of a kind have as many each; SIZE_MAX: none of a kind is whole. */
static size_t count_lacking(const struct model *m)
{
    uint32_t n_layers = model_hparams(m)->n_layers;
    size_t n = 0;
    bool required;
    for (size_t i = 0; i < arch_rule_count(); i++)
        n += arch_rule_at(i)->role >= ROLE_LAYER_COUNT && !model_tensor_find(m, arch_rule_at(i)->role, -1) &&
             arch_rule_applies(arch_rule_at(i), model_hparams(m), -1, &required) && required;
    bool lacks[ARCH_LAYERS_MAX];
    for (uint32_t layer = 0; layer < n_layers; layer++)
        lacks[layer] = layer_lacks(m, layer) != NULL;
    for (uint32_t layer = 0; layer < n_layers; layer++) {
        uint32_t like = 0;
        if (!lacks[layer])
            continue;
        while (like < n_layers && (lacks[like] || !same_kind(m, layer, like)))
            like++;
        if (like == n_layers)
            return SIZE_MAX;
        n += tensors_of_layer(m, like) - tensors_of_layer(m, layer);
    }
    return n;
}

static bool all_is_known(const struct model *m)
{
    uint64_t total, here = gguf_tensor_count(model_file(m));
    return gguf_get_u64(model_file(m), "split.tensors.count", &total) && total >= here &&
           count_lacking(m) == total - here;
}

/* True when the head's or every range's tensor, which not every model has, may be in a file that is not here. */
static bool may_be_absent(const struct model *m, const struct tensor_rule *rule)
{
    size_t n = file_set_count(model_files(m));
    struct extent_of_file *files = extents_of_files(m);
    bool front = n > 1 && !files[0].any && !file_set_has(model_files(m), 1);
    bool back = !file_set_has(model_files(m), n - 1);
    mem_free(files);
    return (front || (rule->role < ROLE_ROPE_FREQS && back)) && !all_is_known(m);
}

static bool needs(const struct model *m, const struct tensor_rule *rule, const struct layer_range *r)
{
    switch (rule->role) {
    case ROLE_EMBEDDING:
        return r->embedding || (r->head && !model_tensor_find(m, ROLE_OUTPUT, -1));
    case ROLE_OUTPUT_NORM:
    case ROLE_OUTPUT_NORM_BIAS:
    case ROLE_OUTPUT:
    case ROLE_OUTPUT_BIAS:
        return r->head;
    default:
        return true;
    }
}

/* A tensor of which a file that is here in part lacks bytes. */
struct hole_search {
    const struct file_set *files;
    bool found;
    size_t file;
};

static void look_for_hole(void *arg, const struct file_stretch *s)
{
    struct hole_search *h = arg;
    if (!h->found && file_set_has(h->files, s->file) && !file_set_holds(h->files, s)) {
        h->found = true;
        h->file = s->file;
    }
}

static int check_holes(const struct model *m, const struct layer_range *r, struct error *e)
{
    struct hole_search h = {.files = model_files(m)};
    for (size_t i = 0; i < model_tensor_count(m); i++) {
        const struct model_tensor *t = model_tensor_at(m, i);
        char what[32] = "what is for all layers";
        if (model_in_range(m, t, r))
            model_tensor_stretches(m, t, look_for_hole, &h);
        if (!h.found)
            continue;
        if (t->layer >= 0)
            snprintf(what, sizeof(what), "layer %d", t->layer);
        else if (t->rule->role == ROLE_EMBEDDING)
            snprintf(what, sizeof(what), "the embedding");
        else if (t->rule->role < ROLE_ROPE_FREQS)
            snprintf(what, sizeof(what), "the head");
        return error_set(e, ERR_NOT_FOUND, "%s is not here: %s holds only %s of the model", what,
                         file_set_path(h.files, h.file), file_set_part(h.files, h.file));
    }
    return 0;
}

int model_check_range(const struct model *m, const struct layer_range *r, struct error *e)
{
    int status = 0;
    if (file_set_whole(model_files(m), NULL) == 0)
        return 0;
    status = check_holes(m, r, e);
    for (size_t i = 0; status == 0 && i < arch_rule_count(); i++) {
        const struct tensor_rule *rule = arch_rule_at(i);
        bool required;
        if (rule->role < ROLE_LAYER_COUNT || model_tensor_find(m, rule->role, -1) || !needs(m, rule, r) ||
            !arch_rule_applies(rule, model_hparams(m), -1, &required))
            continue;
        if (required || may_be_absent(m, rule))
            status = refuse_absent(m, r, rule, -1, e);
    }
    for (uint32_t layer = r->first; status == 0 && layer < r->last; layer++) {
        const struct tensor_rule *rule = layer_lacks(m, layer);
        if (rule)
            status = refuse_absent(m, r, rule, (int32_t)layer, e);
    }
    return status;
}
