/* pull: models of the hub into the store, what is there, and out again. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/memory.h"
#include "base/progress.h"
#include "cli/command.h"
#include "cli/models.h"

int pull_command(const struct settings *s, struct error *e)
{
    struct model_entry m;
    struct pull_report report;
    struct pull_options o = {.source = settings_argument(s, 0), .name = settings_text(s, "as"),
                             .layers = settings_text(s, "layers"),
                             .connections = (unsigned)settings_count(s, "connections")};
    char a[32], b[32];
    if (o.name && model_name_check(o.name, e) != 0)
        return ERR_INVALID;
    int r = models_pull(&m, &report, &o, e);
    if (r == 0 && report.was_there)
        printf("%s is here already, as the hub has it: %s\n", m.name, m.path);
    else if (r == 0 && o.layers)
        printf("%s: %s of %s, in %s\n", m.name, progress_bytes(report.fetched, a), progress_bytes(report.bytes, b),
               m.path);
    else if (r == 0)
        printf("%s: %s, in %s\n", m.name, progress_bytes(report.bytes, a), m.path);
    model_entry_close(&m);
    return r;
}

/* ---- ls ---- */

static json_t *entry_json(const struct model_entry *m)
{
    const json_t *files = json_object_get(m->record, "files");
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:s, s:O*}", "name", m->name, "path", m->path,
                     "source", m->source, "revision", m->revision, "format", m->format, "quant", m->quant, "layers",
                     m->layers, "bytes", (json_int_t)m->bytes, "disk_bytes", (json_int_t)m->disk_bytes, "modified",
                     (json_int_t)m->modified, "digest", m->digest, "files", files);
}

static void print_json(const struct model_entry *list, size_t n)
{
    json_t *all = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(all, entry_json(&list[i]));
    json_dumpf(all, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(all);
}

static void print_table(const struct model_entry *list, size_t n)
{
    size_t width = strlen("NAME");
    for (size_t i = 0; i < n; i++)
        width = strlen(list[i].name) > width ? strlen(list[i].name) : width;
    printf("%-*s  %8s  %-28s  %s\n", (int)width, "NAME", "SIZE", "FORMAT/QUANT", "MODIFIED");
    for (size_t i = 0; i < n; i++) {
        const struct model_entry *m = &list[i];
        char bytes[32], when[32] = "", kind[192];
        time_t t = (time_t)m->modified;
        struct tm local;
        if (localtime_r(&t, &local))
            (void)strftime(when, sizeof(when), "%Y-%m-%d %H:%M", &local);
        snprintf(kind, sizeof(kind), "%s%s%s%s%s", m->format, m->quant[0] ? "/" : "", m->quant,
                 m->layers[0] ? " layers " : "", m->layers);
        printf("%-*s  %8s  %-28s  %s\n", (int)width, m->name,
               progress_bytes(m->layers[0] ? m->disk_bytes : m->bytes, bytes), kind, when);
    }
}

int ls_command(const struct settings *s, struct error *e)
{
    struct model_entry *list;
    size_t n;
    uint64_t bytes;
    char text[32];
    int r = model_store_list(&list, &n, e);
    if (r != 0)
        return r;
    if (settings_switch(s, "json")) {
        print_json(list, n);
    } else {
        print_table(list, n);
        size_t unfinished = model_store_unfinished(&bytes);
        if (unfinished > 0)
            printf("%zu unfinished, %s: the same shoal pull goes on with it, shoal rm NAME removes it\n", unfinished,
                   progress_bytes(bytes, text));
    }
    model_entries_free(&list, n);
    return 0;
}

/* ---- rm ---- */

int rm_command(const struct settings *s, struct error *e)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < settings_argument_count(s); i++) {
        char *name = NULL, text[32];
        uint64_t freed = 0;
        const char *asked = settings_argument(s, i);
        asked += strncmp(asked, "hf:", 3) == 0 ? 3 : 0;
        r = model_store_remove(asked, &name, &freed, e);
        if (r == 0)
            printf("removed %s: %s freed\n", name, progress_bytes(freed, text));
        mem_free(name);
    }
    return r;
}
