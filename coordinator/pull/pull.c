/* pull: listing, choice, room, files, record, name: in this order, each of which can be gone on with. */
#include "coordinator/pull/pull.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/progress.h"
#include "coordinator/pull/pull_state.h"
#include "shard/arch/arch.h"

enum { CONNECTIONS_DEFAULT = 4, ROOM_SPARE = 16 << 20 };

/* ---- files ---- */

struct hub_file *pull_file(const struct pull *p, size_t i)
{
    return &p->listing.files[p->choice.files[i]];
}

char *pull_path(const struct pull *p, size_t i)
{
    return path_join(p->part, hub_file_name(pull_file(p, i)));
}

static void on_progress(void *arg, uint64_t done)
{
    struct pull *p = arg;
    if (p->o->progress)
        p->o->progress(p->o->arg, p->what, p->before + done, p->total);
}

int pull_fetch(struct pull *p, size_t i, const struct span *wanted, size_t n, struct error *e)
{
    const struct hub_file *f = pull_file(p, i);
    char *url = hub_url(p->client, &p->listing, p->choice.files[i]), *path = pull_path(p, i);
    struct download_options d = {
        .client = p->client, .url = url, .path = path, .bytes = f->bytes, .sha256 = f->sha256[0] ? f->sha256 : NULL,
        .wanted = wanted, .n_wanted = n, .progress = on_progress, .arg = p,
        .connections = p->o->connections ? p->o->connections : CONNECTIONS_DEFAULT,
    };
    int r = hub_explain(download(&d, e), p->client, &p->source, e);
    mem_free(url);
    mem_free(path);
    return r;
}

uint64_t pull_left(const struct pull *p, size_t i, const struct span *wanted, size_t n)
{
    const struct hub_file *f = pull_file(p, i);
    char *path = pull_path(p, i);
    struct download_options d = {.path = path, .bytes = f->bytes, .sha256 = f->sha256[0] ? f->sha256 : NULL,
                                 .wanted = wanted, .n_wanted = n};
    uint64_t left = download_left(&d);
    mem_free(path);
    return left;
}

int pull_check_room(const struct pull *p, uint64_t missing, struct error *e)
{
    struct statvfs fs;
    char need[32], have[32];
    if (missing == 0 || statvfs(p->part, &fs) != 0)
        return 0;
    uint64_t left = (uint64_t)fs.f_bavail * fs.f_frsize;
    if (left >= missing && left - missing >= ROOM_SPARE)
        return 0;
    return error_set(e, ERR_LIMIT, "the models' disk has %s left and %s are to come; free some (shoal rm) or set "
                                   "SHOAL_MODELS_DIR to a folder elsewhere", progress_bytes(left, have),
                     progress_bytes(missing, need));
}

static int fetch_all(struct pull *p, struct error *e)
{
    uint64_t here = 0;
    int r = 0;
    for (size_t i = 0; i < p->choice.n; i++) {
        struct stat st;
        char *path = pull_path(p, i);
        p->total += pull_file(p, i)->bytes;
        if (stat(path, &st) == 0)
            here += (uint64_t)st.st_blocks * 512;
        mem_free(path);
    }
    r = pull_check_room(p, p->total > here ? p->total - here : 0, e);
    for (size_t i = 0; r == 0 && i < p->choice.n; i++) {
        r = pull_fetch(p, i, NULL, 0, e);
        p->before += pull_file(p, i)->bytes;
    }
    return r;
}

/* ---- what it is called ---- */

static int refuse_names(const struct pull *p, struct error *e)
{
    for (size_t i = 0; i < p->choice.n; i++) {
        const char *name = hub_file_name(pull_file(p, i));
        bool own = strcmp(name, MODEL_STORE_RECORD) == 0 || strstr(name, SPANS_RECORD) ||
                   strstr(name, DOWNLOAD_JOURNAL);
        if (name[0] == '.' || own || strlen(name) > 200)
            return error_set(e, ERR_UNSUPPORTED, "%s: a file called %.100s cannot be kept", p->source.repo, name);
    }
    return 0;
}

static int choose_name(struct pull *p, struct error *e)
{
    const char *given = p->o->name, *tag = p->choice.quant[0] ? p->choice.quant : "latest";
    const char *base = given ? given : p->source.repo, *colon = strchr(base, ':');
    char layers[64] = "";
    if (p->o->layers) {
        uint32_t first, last;
        int r = pull_parse_layers(p->o->layers, &first, &last, e);
        if (r != 0)
            return r;
        snprintf(layers, sizeof(layers), "-layers-%u-%u", first, last);
    }
    p->name = colon ? mem_strdup(base) : mem_printf("%s:%s%s", base, tag, layers);
    p->part = model_store_part_folder(p->name);
    p->what = mem_printf("pulling %s", p->name);
    return model_name_check(p->name, e);
}

/* ---- the record ---- */

/* The type of a folder's weights, as its configuration says it. */
static void folder_quant(const struct pull *p, char quant[static 64])
{
    char *path = path_join(p->part, "config.json");
    json_t *j = json_load_file(path, 0, NULL);
    const json_t *text = json_object_get(j, "text_config");
    const json_t *q = json_object_get(j, "quantization_config");
    const char *words = json_string_value(json_object_get(q, "quant_method"));
    const json_t *const at[] = {j, text};
    for (size_t i = 0; !words && i < COUNTOF(at); i++) {
        words = json_string_value(json_object_get(at[i], "torch_dtype"));
        words = words ? words : json_string_value(json_object_get(at[i], "dtype"));
    }
    snprintf(quant, 64, "%s", words ? words : "");
    json_decref(j);
    mem_free(path);
}

static json_t *record_of(const struct pull *p)
{
    char quant[HUB_QUANT_MAX + 1], source[256];
    json_t *files = json_array();
    snprintf(quant, sizeof(quant), "%s", p->choice.quant);
    if (!p->choice.gguf)
        folder_quant(p, quant);
    snprintf(source, sizeof(source), "hf:%s", p->source.repo);
    for (size_t i = 0; i < p->choice.n; i++) {
        const struct hub_file *f = pull_file(p, i);
        json_array_append_new(files, json_pack("{s:s, s:I, s:s*, s:s}", "name", hub_file_name(f), "bytes",
                                               (json_int_t)f->bytes, "sha256", f->sha256[0] ? f->sha256 : NULL, "path",
                                               f->path));
    }
    return json_pack("{s:i, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s*, s:s, s:I, s:o}", "version", 1, "name", p->name,
                     "source", source, "hub", http_client_origin(p->client), "revision", p->listing.commit, "branch",
                     p->source.revision, "format", p->choice.gguf ? "gguf" : "safetensors", "quant", quant, "layers",
                     p->o->layers, "model", p->choice.gguf ? hub_file_name(pull_file(p, 0)) : ".", "pulled",
                     (json_int_t)clock_unix(), "files", files);
}

/* What the model is, as far as this version reads it. */
static void describe(const struct pull *p, json_t *record)
{
    struct model *m;
    char *path = p->choice.gguf ? pull_path(p, 0) : mem_strdup(p->part);
    if (model_open(&m, path, NULL) == 0) {
        json_object_set_new(record, "architecture", json_string(model_hparams(m)->arch->name));
        json_object_set_new(record, "parameters", json_integer((json_int_t)model_params_total(m)));
        model_close(&m);
    }
    mem_free(path);
}

/* What earlier pulls of other files left in the folder goes, and journals too. */
static void clear_others(const struct pull *p)
{
    DIR *d = opendir(p->part);
    for (struct dirent *f; d && (f = readdir(d));) {
        bool known = false;
        for (size_t i = 0; !known && i < p->choice.n; i++) {
            const char *name = hub_file_name(pull_file(p, i));
            size_t n = strlen(name);
            known = strcmp(f->d_name, name) == 0 || (p->o->layers && strncmp(f->d_name, name, n) == 0 &&
                                                     strcmp(f->d_name + n, SPANS_RECORD) == 0);
        }
        if (!known && strcmp(f->d_name, ".") != 0 && strcmp(f->d_name, "..") != 0)
            (void)unlinkat(dirfd(d), f->d_name, 0);
    }
    if (d)
        closedir(d);
}

/* ---- the whole ---- */

static int list_and_choose(struct pull *p, struct error *e)
{
    struct buffer index;
    buffer_init(&index, HUB_INDEX_MAX);
    int r = hub_open(&p->client, p->o->stop, p->o->arg, e);
    if (r == 0)
        r = hub_list(&p->listing, p->client, &p->source, e);
    size_t file = r == 0 ? hub_index_of(&p->listing) : SIZE_MAX;
    if (file != SIZE_MAX) {
        char *url = hub_url(p->client, &p->listing, file);
        r = hub_explain(http_client_get(p->client, url, HUB_INDEX_MAX, &index, NULL, e), p->client, &p->source, e);
        mem_free(url);
    }
    if (r == 0)
        r = hub_choose(&p->choice, &p->listing, file != SIZE_MAX ? buffer_text(&index) : NULL, e);
    buffer_close(&index);
    return r == 0 ? refuse_names(p, e) : r;
}

/* One name may have been given to several files of one commit. */
static bool has_files(const struct pull *p, const struct model_entry *m)
{
    const json_t *files = json_object_get(m->record, "files");
    bool same = json_array_size(files) == p->choice.n && model_store_is_whole(m->record, m->folder);
    for (size_t i = 0; same && i < p->choice.n; i++) {
        const char *path = json_string_value(json_object_get(json_array_get(files, i), "path"));
        same = path && strcmp(path, pull_file(p, i)->path) == 0;
    }
    return same;
}

static bool is_there(const struct pull *p, struct model_entry *out)
{
    if (model_store_find(out, p->name, NULL) != 0)
        return false;
    const char *layers = p->o->layers ? p->o->layers : "";
    if (strcmp(out->name, p->name) == 0 && strcmp(out->revision, p->listing.commit) == 0 &&
        strcmp(out->layers, layers) == 0 && has_files(p, out))
        return true;
    model_entry_close(out);
    return false;
}

static int fetch_and_commit(struct pull *p, struct pull_report *report, struct error *e)
{
    uint32_t first, last;
    int r = 0;
    if (p->o->layers) {
        r = pull_parse_layers(p->o->layers, &first, &last, e);
        if (r == 0)
            r = pull_layers(p, first, last, &report->fetched, e);
    } else {
        r = fetch_all(p, e);
        report->fetched = report->bytes;
    }
    if (r != 0)
        return r;
    clear_others(p);
    json_t *record = record_of(p);
    if (record)
        describe(p, record);
    r = record ? model_store_commit(p->name, record, e) : error_set(e, ERR_INTERNAL, "the model's record is not text");
    json_decref(record);
    return r;
}

int pull_model(struct model_entry *out, struct pull_report *report, const struct pull_options *o, struct error *e)
{
    struct pull p = {.o = o};
    int lock = -1;
    *out = (struct model_entry){0};
    *report = (struct pull_report){0};
    int r = hub_source_parse(&p.source, o->source, e);
    if (r == 0)
        r = list_and_choose(&p, e);
    if (r == 0)
        r = choose_name(&p, e);
    for (size_t i = 0; r == 0 && i < p.choice.n; i++)
        report->bytes += pull_file(&p, i)->bytes;
    if (r == 0 && is_there(&p, out)) {
        report->was_there = true;
    } else if (r == 0) {
        r = model_store_begin(&lock, p.name, e);
        if (r == 0)
            r = fetch_and_commit(&p, report, e);
        if (r == 0)
            r = model_store_find(out, p.name, e);
        if (lock >= 0)
            close(lock);
    }
    hub_choice_close(&p.choice);
    hub_listing_close(&p.listing);
    http_client_close(&p.client);
    mem_free(p.name);
    mem_free(p.part);
    mem_free(p.what);
    return r;
}

int pull_find(struct model_entry *out, const char *source, struct error *e)
{
    struct hub_source s;
    *out = (struct model_entry){0};
    int r = hub_source_parse(&s, source, e);
    if (r != 0)
        return r;
    char *name = s.quant[0] ? mem_printf("%s:%s", s.repo, s.quant) : mem_strdup(s.repo);
    r = model_store_find(out, name, e);
    mem_free(name);
    return r;
}

int pull_parse_layers(const char *text, uint32_t *first, uint32_t *last, struct error *e)
{
    char *colon, *end = NULL;
    unsigned long a = strtoul(text, &colon, 10), b = *colon == ':' ? strtoul(colon + 1, &end, 10) : 0;
    if (colon == text || text[0] == '-' || *colon != ':' || end == colon + 1 || *end || a >= b || b > 100000)
        return error_set(e, ERR_INVALID, "--layers: \"%.40s\" is not A:B with A below B", text);
    *first = (uint32_t)a;
    *last = (uint32_t)b;
    return 0;
}
