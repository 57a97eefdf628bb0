/* hf_folder: the files of a folder: config.json, the index where there are several, and the tensors of all. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/memory.h"
#include "base/path.h"
#include "shard/arch/hf_parts.h"

#define CONFIG "config.json"
#define INDEX "model.safetensors.index.json"
#define SINGLE "model.safetensors"

int hf_load_json(const struct hf *h, const char *name, size_t bytes_max, json_t **out, struct error *e)
{
    char *path = path_join(h->path, name), *data = NULL;
    size_t len;
    json_error_t wrong;
    *out = NULL;
    int r = path_read(path, bytes_max, &data, &len, e);
    if (r == 0) {
        *out = json_loadb(data, len, JSON_REJECT_DUPLICATES, &wrong);
        if (!json_is_object(*out))
            r = error_set(e, ERR_CORRUPT, "%s: %s", path, *out ? "is no object" : wrong.text);
        mem_free(data);
    }
    mem_free(path);
    if (r != 0) {
        json_decref(*out);
        *out = NULL;
    }
    return r;
}

/* ---- opening ---- */

static int add_json(struct hf *h, const char *name, struct error *e)
{
    struct stat st;
    char *path = path_join(h->path, name);
    int r = stat(path, &st) == 0 ? 0 : error_set(e, ERR_NOT_FOUND, "%s: is not there", path);
    mem_free(path);
    if (r == 0)
        h->files[h->n_files++] = (struct hf_file){.name = mem_strdup(name), .bytes = (uint64_t)st.st_size};
    return r;
}

static int add_tensors(struct hf *h, const char *name, struct error *e)
{
    struct hf_file *f = &h->files[h->n_files];
    char *path = path_join(h->path, name);
    int r = safetensors_open(&f->tensors, path, e);
    mem_free(path);
    if (r != 0)
        return r;
    f->name = mem_strdup(name);
    f->bytes = safetensors_file_bytes(f->tensors);
    h->n_files++;
    return 0;
}

/* A name of an index leads to a file of the folder and to nothing else. */
static bool is_plain_name(const char *name)
{
    static const char end[] = ".safetensors";
    size_t n = strlen(name);
    for (size_t i = 0; i < n; i++)
        if (name[i] <= ' ' || name[i] > '~' || name[i] == '/')
            return false;
    return n > sizeof(end) - 1 && n <= 255 && name[0] != '.' && strcmp(name + n - (sizeof(end) - 1), end) == 0;
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Every file that the index names, once, by name. */
static int add_named(struct hf *h, json_t *map, struct error *e)
{
    size_t n = json_object_size(map), i = 0;
    const char **names = mem_array(n + 1, sizeof(*names));
    const char *key;
    json_t *value;
    int r = 0;
    json_object_foreach(map, key, value) {
        const char *name = json_string_value(value);
        if (!name || !is_plain_name(name))
            r = error_set(e, ERR_CORRUPT, "%s/" INDEX ": says that tensor %s is in \"%s\", which is no safetensors "
                                          "file of the folder", h->path, key, name ? name : "");
        if (r != 0)
            break;
        names[i++] = name;
    }
    qsort(names, i, sizeof(*names), compare_texts);
    for (size_t k = 0; r == 0 && k < i; k++) {
        if (k > 0 && strcmp(names[k], names[k - 1]) == 0)
            continue;
        if (h->n_files == HF_FILES_MAX)
            r = error_set(e, ERR_LIMIT, "%s/" INDEX ": names more than %d files", h->path, HF_FILES_MAX - 2);
        else
            r = add_tensors(h, names[k], e);
    }
    mem_free(names);
    return r;
}

static int compare_found(const void *a, const void *b)
{
    return strcmp(((const struct hf_found *)a)->t->name, ((const struct hf_found *)b)->t->name);
}

/* All files' tensors in one list, in which no name occurs twice. */
static int list_tensors(struct hf *h, struct error *e)
{
    size_t n = 0;
    for (size_t f = 0; f < h->n_files; f++)
        n += h->files[f].tensors ? safetensors_count(h->files[f].tensors) : 0;
    h->all = mem_array(n + 1, sizeof(*h->all));
    for (size_t f = 0; f < h->n_files; f++)
        for (size_t i = 0; h->files[f].tensors && i < safetensors_count(h->files[f].tensors); i++)
            h->all[h->n_all++] = (struct hf_found){.t = safetensors_at(h->files[f].tensors, i), .file = (uint32_t)f};
    qsort(h->all, n, sizeof(*h->all), compare_found);
    for (size_t i = 1; i < n; i++)
        if (compare_found(&h->all[i - 1], &h->all[i]) == 0)
            return error_set(e, ERR_CORRUPT, "%s: tensor %s is in %s and in %s", h->path, h->all[i].t->name,
                             h->files[h->all[i - 1].file].name, h->files[h->all[i].file].name);
    return 0;
}

/* The index must tell the truth: who reads by it alone would find another model. */
static int check_index(const struct hf *h, json_t *map, struct error *e)
{
    const char *key;
    json_t *value;
    json_object_foreach(map, key, value) {
        const struct hf_found *found = hf_find(h, key);
        if (!found || strcmp(h->files[found->file].name, json_string_value(value)) != 0)
            return error_set(e, ERR_CORRUPT, "%s/" INDEX ": says that tensor %s is in %s, and it is not", h->path, key,
                             json_string_value(value));
    }
    return 0;
}

static int open_indexed(struct hf *h, struct error *e)
{
    json_t *index;
    int r = hf_load_json(h, INDEX, HF_JSON_BYTES_MAX, &index, e);
    json_t *map = json_object_get(index, "weight_map");
    if (r == 0 && json_object_size(map) == 0)
        r = error_set(e, ERR_CORRUPT, "%s/" INDEX ": has no weight_map", h->path);
    if (r == 0)
        r = add_json(h, INDEX, e);
    if (r == 0)
        r = add_named(h, map, e);
    if (r == 0)
        r = list_tensors(h, e);
    if (r == 0)
        r = check_index(h, map, e);
    json_decref(index);
    return r;
}

static bool has_file(const struct hf *h, const char *name)
{
    char *path = path_join(h->path, name);
    bool there = path_exists(path);
    mem_free(path);
    return there;
}

int hf_open_files(struct hf *h, struct error *e)
{
    h->files = mem_array(HF_FILES_MAX, sizeof(*h->files));
    if (!has_file(h, CONFIG))
        return error_set(e, ERR_NOT_FOUND, "%s: is a folder without " CONFIG ", so it is no model", h->path);
    int r = add_json(h, CONFIG, e);
    if (r != 0)
        return r;
    if (has_file(h, INDEX))
        return open_indexed(h, e);
    if (!has_file(h, SINGLE))
        return error_set(e, ERR_NOT_FOUND, "%s: holds neither " SINGLE " nor " INDEX "%s", h->path,
                         has_file(h, "pytorch_model.bin") || has_file(h, "pytorch_model.bin.index.json")
                             ? "; PyTorch's own files are not read: save the model as safetensors" : "");
    r = add_tensors(h, SINGLE, e);
    return r == 0 ? list_tensors(h, e) : r;
}

void hf_close_files(struct hf *h)
{
    for (size_t i = 0; i < h->n_files; i++) {
        safetensors_close(&h->files[i].tensors);
        mem_free(h->files[i].name);
    }
    mem_free(h->files);
    mem_free(h->all);
}

struct hf_found *hf_find(const struct hf *h, const char *name)
{
    size_t low = 0, high = h->n_all;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int c = strcmp(h->all[mid].t->name, name);
        if (c == 0)
            return &h->all[mid];
        if (c < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}

/* ---- what is left over ---- */

/* Parts of models that see and hear, layers that predict further tokens, and buffers that are computed anew. */
static bool is_other(const char *name)
{
    static const char *const starts[] = {
        "vision_tower.", "model.vision_tower.", "multi_modal_projector.", "model.multi_modal_projector.",
        "vision_model.", "model.vision_model.", "visual.", "model.visual.", "vision_encoder.", "vision_adapter.",
        "vision_language_adapter.", "patch_merger.", "mm_projector.", "model.mm_projector.", "audio_tower.",
        "mtp.", "mtp_", "model.mtp.", "model.mtp_", "model.language_model.mtp.",
    };
    static const char *const ends[] = {"rotary_emb.inv_freq", ".activation_scale", ".input_scale", ".masked_bias",
                                       ".k_scale", ".v_scale", ".q_scale", ".output_scale", ".input_zero_point",
                                       ".input_scale_ub"};
    size_t n = strlen(name);
    for (size_t i = 0; i < COUNTOF(starts); i++)
        if (strncmp(name, starts[i], strlen(starts[i])) == 0)
            return true;
    for (size_t i = 0; i < COUNTOF(ends); i++)
        if (n >= strlen(ends[i]) && strcmp(name + n - strlen(ends[i]), ends[i]) == 0)
            return true;
    return false;
}

static bool is_extra_layer(const struct hf *h, const char *name, uint32_t n_layers)
{
    char start[64], *end;
    int n = snprintf(start, sizeof(start), "%slayers.", h->prefix);
    if (strncmp(name, start, (size_t)n) != 0)
        return false;
    unsigned long layer = strtoul(name + n, &end, 10);
    return *end == '.' && end > name + n && layer >= n_layers && layer < (unsigned long)n_layers + ARCH_LAYERS_MAX;
}

int hf_refuse_unused(const struct hf *h, uint32_t n_layers, const char *family, struct error *e)
{
    for (size_t i = 0; i < h->n_all; i++) {
        const char *name = h->all[i].t->name;
        if (!h->all[i].used && !is_other(name) && !is_extra_layer(h, name, n_layers))
            return error_set(e, ERR_UNSUPPORTED, "%s/%s: has tensor %s, which models of type %s do not have in this "
                                                 "version", h->path, h->files[h->all[i].file].name, name, family);
    }
    return 0;
}

/* ---- as a set ---- */

int hf_open_set(const struct hf *h, struct file_set **out, struct error *e)
{
    struct file_set_entry *entries = mem_array(h->n_files, sizeof(*entries));
    for (size_t i = 0; i < h->n_files; i++) {
        const struct hf_file *f = &h->files[i];
        snprintf(entries[i].name, sizeof(entries[i].name), "%s", f->name);
        entries[i].bytes = f->bytes;
        entries[i].head_bytes = f->tensors ? safetensors_head_bytes(f->tensors) : f->bytes;
    }
    int r = file_set_open(out, h->path, entries, h->n_files, e);
    mem_free(entries);
    return r;
}
