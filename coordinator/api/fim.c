/* fim: BOS, files, prefix, suffix and the gap, each behind its control token, as code models are trained.
 *
 * Prefix, suffix, middle is the order of all models that name such tokens.
 * Files come before, as Qwen's and StarCoder's authors describe it and
 * llama.cpp does; models without a token for files get a line that no code has. */
#include "coordinator/api/fim.h"

#include <string.h>

#include "base/memory.h"

enum { ROOM_FIRST = 256 };

#define NO_TOKEN_BETWEEN "\n\n--- snippet ---\n\n"

struct list {
    struct token_list tokens;
    size_t room;
};

bool fim_supported(const struct api *a)
{
    return a->options.tokenizer != NULL && tokenizer_fim(a->options.tokenizer, FIM_PREFIX) >= 0;
}

int fim_check_files(const json_t *files, const char *param, struct refusal *r)
{
    size_t i;
    const json_t *file;
    if (files == NULL || json_is_null(files))
        return 0;
    if (!json_is_array(files))
        return refuse(r, ERR_INVALID, param, "%s must be a list of objects with filename and text", param);
    json_array_foreach(files, i, file) {
        const json_t *name = json_object_get(file, "filename");
        if (!json_is_string(json_object_get(file, "text")) || (name != NULL && !json_is_string(name)))
            return refuse(r, ERR_INVALID, param, "%s: entry %zu must be an object with a text and perhaps a filename",
                          param, i);
    }
    return 0;
}

static void add_ids(struct list *l, const int32_t *ids, size_t n)
{
    if (l->tokens.count + n > l->room) {
        l->room = 2 * (l->tokens.count + n) + ROOM_FIRST;
        l->tokens.ids = mem_resize(l->tokens.ids, l->room, sizeof(*ids));
    }
    if (n > 0)
        memcpy(l->tokens.ids + l->tokens.count, ids, n * sizeof(*ids));
    l->tokens.count += n;
}

static void add_part(const struct api *a, struct list *l, enum fim_part part)
{
    int32_t id = tokenizer_fim(a->options.tokenizer, part);
    add_ids(l, &id, id >= 0);
}

static int add_text(const struct api *a, struct list *l, const char *text, size_t n, unsigned flags, struct error *e)
{
    struct token_list tokens = { 0 };
    int rc = tokenizer_encode(a->options.tokenizer, text, n, flags, &tokens, e);
    if (rc == 0)
        add_ids(l, tokens.ids, tokens.count);
    token_list_free(&tokens);
    return rc;
}

/* What opens a file's text; json NULL: the one with the gap. */
static int add_file_head(const struct api *a, struct list *l, const json_t *file, struct error *e)
{
    bool named = tokenizer_fim(a->options.tokenizer, FIM_FILE) >= 0;
    const char *name = file == NULL ? "filename" : json_string_value(json_object_get(file, "filename"));
    char *line = named ? mem_printf("%s\n", name == NULL ? "tmp" : name) : mem_strdup(file ? NO_TOKEN_BETWEEN : "");
    add_part(a, l, FIM_FILE);
    int rc = add_text(a, l, line, strlen(line), 0, e);
    mem_free(line);
    return rc;
}

static int add_file(const struct api *a, struct list *l, const json_t *file, struct error *e)
{
    const json_t *text = json_object_get(file, "text");
    int rc = add_file_head(a, l, file, e);
    return rc == 0 ? add_text(a, l, json_string_value(text), json_string_length(text), 0, e) : rc;
}

/* What stands before the files. */
static int add_head(const struct api *a, struct list *l, bool files, struct error *e)
{
    static const char project[] = "myproject\n";
    int rc = add_text(a, l, "", 0, ENCODE_BOS, e);
    if (rc != 0 || !files || tokenizer_fim(a->options.tokenizer, FIM_REPO) < 0)
        return rc;
    add_part(a, l, FIM_REPO);
    return add_text(a, l, project, sizeof(project) - 1, 0, e);
}

static int add_gap(const struct api *a, struct list *l, const struct fim *f, bool files, struct error *e)
{
    int rc = files ? add_file_head(a, l, NULL, e) : 0;
    add_part(a, l, FIM_PREFIX);
    add_ids(l, f->prefix->ids, f->prefix->count);
    add_part(a, l, FIM_SUFFIX);
    if (rc == 0)
        rc = add_text(a, l, f->suffix, f->suffix_len, 0, e);
    add_part(a, l, FIM_MIDDLE);
    return rc;
}

/* The last files that fit into `room`, in their order. */
static int add_files(const struct api *a, struct list *l, const json_t *files, size_t room, struct error *e)
{
    size_t n = json_array_size(files), first = n, taken = 0;
    struct list *each = mem_array(n, sizeof(*each));
    int rc = 0;
    while (first > 0 && rc == 0) {
        rc = add_file(a, &each[first - 1], json_array_get(files, first - 1), e);
        taken += each[first - 1].tokens.count;
        if (taken > room)
            break;
        first--;
    }
    for (size_t i = first; i < n; i++)
        add_ids(l, each[i].tokens.ids, each[i].tokens.count);
    for (size_t i = 0; i < n; i++)
        token_list_free(&each[i].tokens);
    mem_free(each);
    return rc;
}

int fim_prompt(const struct api *a, const struct fim *f, struct token_list *out, struct error *e)
{
    bool files = json_array_size(f->files) > 0;
    struct list all = { 0 }, gap = { 0 };
    int rc = add_head(a, &all, files, e);
    if (rc == 0)
        rc = add_gap(a, &gap, f, files, e);
    size_t used = all.tokens.count + gap.tokens.count;
    if (rc == 0 && files)
        rc = add_files(a, &all, f->files, f->room > used ? f->room - used : 0, e);
    add_ids(&all, gap.tokens.ids, gap.tokens.count);
    token_list_free(&gap.tokens);
    if (rc == 0)
        *out = all.tokens;
    else
        token_list_free(&all.tokens);
    return rc;
}
