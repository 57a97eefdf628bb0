/* golden: walks the folder and reads NAME.gguf with NAME.logits. */
#include "golden.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/path.h"
#include "base/view.h"
#include "shard/arch/arch.h"

enum { GOLDEN_MAGIC = 0x444c4f47, FILE_MAX = 256 << 20 };

static void golden_read(struct golden *g, const char *dir, const char *file)
{
    char *name = mem_strndup(file, strlen(file) - strlen(".gguf")), *data;
    char *path = mem_printf("%s/%s.logits", dir, name);
    size_t len;
    assert_int_equal(path_read(path, FILE_MAX, &data, &len, NULL), 0);
    struct view v = view_of(data, len);
    assert_int_equal(view_u32(&v), GOLDEN_MAGIC);
    g->path = mem_printf("%s/%s", dir, file);
    g->n = view_u32(&v);
    g->n_vocab = view_u32(&v);
    assert_true(g->n > 0 && g->n <= GOLDEN_TOKENS_MAX && view_has(&v, (uint64_t)g->n * g->n_vocab * 4));
    g->tokens = mem_array(g->n, sizeof(int32_t));
    g->logits = mem_array((size_t)g->n * g->n_vocab, sizeof(float));
    for (uint32_t i = 0; i < g->n; i++)
        g->tokens[i] = view_i32(&v);
    for (size_t i = 0; i < (size_t)g->n * g->n_vocab; i++)
        g->logits[i] = view_f32(&v);
    g->n_next = view_u32(&v);
    assert_true(g->n_next > 0 && g->n_next <= GOLDEN_TOKENS_MAX);
    g->next = mem_array(g->n_next, sizeof(int32_t));
    for (uint32_t i = 0; i < g->n_next; i++)
        g->next[i] = view_i32(&v);
    assert_true(view_done(&v));
    mem_free(data);
    mem_free(path);
    mem_free(name);
}

void golden_free(struct golden *g)
{
    mem_free(g->path);
    mem_free(g->tokens);
    mem_free(g->logits);
    mem_free(g->next);
}

/* Does arch_find() know the family of the file? */
static bool is_ours(const char *path)
{
    struct gguf *f;
    struct gguf_string s;
    char name[64] = "";
    if (gguf_open(&f, path, NULL) != 0)
        return false;
    if (gguf_get_string(f, "general.architecture", &s) && s.len < sizeof(name))
        memcpy(name, s.text, s.len);
    gguf_close(&f);
    return arch_find(name) != NULL;
}

void golden_each(void (*check)(const struct golden *g))
{
    const char *root = getenv("SHOAL_GOLDENS");
    char *dir = mem_printf("%s/models", root ? root : "../shared/goldens");
    DIR *d = opendir(dir);
    if (!d) {
        print_message("    skipped: there is no folder %s\n", dir);
        mem_free(dir);
        skip();
    }
    int n = 0;
    for (struct dirent *entry; (entry = readdir(d)) != NULL;) {
        size_t len = strlen(entry->d_name);
        if (len < 5 || strcmp(entry->d_name + len - 5, ".gguf") != 0)
            continue;
        char *path = mem_printf("%s/%s", dir, entry->d_name);
        if (is_ours(path)) {
            struct golden g;
            print_message("    %s\n", entry->d_name);
            golden_read(&g, dir, entry->d_name);
            check(&g);
            golden_free(&g);
            n++;
        }
        mem_free(path);
    }
    closedir(d);
    mem_free(dir);
    assert_true(n > 0);
}
