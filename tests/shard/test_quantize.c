/* test_quantize: an interrupted quantisation goes on, and what comes out is what comes out of one run. */
#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <fcntl.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/path.h"
#include "base/random.h"
#include "shard/arch/synth.h"
#include "shard/run/quantize.h"
#include "tests/shard/folder.h"
#include "tests/shard/route.h"
#include "tests/shard/splits.h"

#define CHECKPOINTS "tests/data/hf"

enum { SYNC = 64 << 10 };

struct watched {
    uint64_t first, last; /* of the progress */
    int calls, die_at, stop_at, keys;
    char notes[1024];
};

static void see(void *arg, uint64_t done, uint64_t total)
{
    struct watched *w = arg;
    assert_true(done <= total && done >= w->last);
    w->first = w->calls == 0 ? done : w->first;
    w->last = done;
    if (++w->calls == w->die_at)
        raise(SIGKILL);
}

static bool stop(void *arg)
{
    struct watched *w = arg;
    return w->stop_at > 0 && w->calls >= w->stop_at;
}

static void listen_to(void *arg, const char *sentence)
{
    struct watched *w = arg;
    snprintf(w->notes + strlen(w->notes), sizeof(w->notes) - strlen(w->notes), "%s\n", sentence);
}

static int quantize(const char *in, const char *out, const char *type, struct watched *w, struct error *e)
{
    struct quantize_options o = {.type = type, .threads = 1, .sync_bytes = SYNC, .progress = see, .stop = stop,
                                 .note = listen_to, .arg = w};
    char *from = mem_strdup(folder_path(in)), *to = mem_strdup(folder_path(out));
    int r = quantize_write(from, to, &o, e);
    mem_free(from);
    mem_free(to);
    return r;
}

/* About 3 MB, of matrices larger than a round and small ones. */
static void make(const char *name, const char *type, uint64_t seed)
{
    struct error e = {0};
    struct synth_options o = {.family = "qwen3moe", .layers = 2, .hidden = 256, .heads = 3, .kv_heads = 1,
                              .head_dim = 32, .experts = 4, .experts_used = 2, .expert_ffn = 96, .vocab = 999,
                              .context = 64, .type = type, .seed = seed};
    if (synth_write(folder_path(name), &o, &e) != 0)
        fail_msg("%s", e.text);
}

static bool is_there(const char *name)
{
    return path_exists(folder_path(name));
}

static void same_files(const char *a, const char *b)
{
    size_t n, m;
    uint8_t *x = folder_read(a, &n), *y = folder_read(b, &m);
    assert_int_equal(n, m);
    assert_memory_equal(x, y, n);
    free(x);
    free(y);
}

static int open_models(void **state)
{
    int r = folder_open(state);
    make("in.gguf", "f32", 7);
    for (size_t i = 0; i < 2; i++) {
        static const char *const types[] = {"Q4_K_M", "Q8_0"};
        struct error e = {0};
        struct watched w = {0};
        char *name = mem_printf("%s.gguf", types[i]);
        if (quantize("in.gguf", name, types[i], &w, &e) != 0)
            fail_msg("%s", e.text);
        mem_free(name);
    }
    return r;
}

static void clean(void)
{
    (void)unlink(folder_path("out.gguf"));
    (void)unlink(folder_path("out.gguf.shoal-part"));
    (void)unlink(folder_path("out.gguf.shoal-journal"));
}

static int set_up(void **state)
{
    (void)state;
    clean();
    return 0;
}

static void finish(const char *type, const char *whole, bool resumes)
{
    struct error e = {0};
    struct watched w = {0};
    if (quantize("in.gguf", "out.gguf", type, &w, &e) != 0)
        fail_msg("%s", e.text);
    assert_int_equal(resumes, w.first > 0);
    assert_int_equal(resumes, strstr(w.notes, "going on with") != NULL);
    same_files("out.gguf", whole);
    assert_false(is_there("out.gguf.shoal-part") || is_there("out.gguf.shoal-journal"));
    clean();
}

/* SIGKILL at random moments, until one run is left alone; each goes on from no earlier than the one before. */
static void test_killed_runs_go_on(void **state)
{
    static const char *const types[] = {"Q4_K_M", "Q8_0"};
    struct random_state random;
    size_t kills = 0;
    (void)state;
    random_seed(&random, 11);
    for (int round = 0; round < 12; round++) {
        const char *type = types[round % 2];
        for (int tries = 0; tries < 100 && !is_there("out.gguf"); tries++) {
            struct watched w = {.die_at = 2 + (int)(random_u64(&random) % 12)};
            pid_t child = fork();
            assert_true(child >= 0);
            if (child == 0)
                _exit(quantize("in.gguf", "out.gguf", type, &w, NULL) ? 1 : 0);
            int status;
            assert_int_equal(waitpid(child, &status, 0), child);
            assert_true(WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL : WEXITSTATUS(status) == 0);
            kills += WIFSIGNALED(status);
        }
        same_files("out.gguf", round % 2 ? "Q8_0.gguf" : "Q4_K_M.gguf");
        assert_false(is_there("out.gguf.shoal-part") || is_there("out.gguf.shoal-journal"));
        clean();
    }
    assert_true(kills > 24);
}

static void interrupt_at(const char *type, int call)
{
    struct error e = {0};
    struct watched w = {.stop_at = call};
    assert_int_equal(quantize("in.gguf", "out.gguf", type, &w, &e), ERR_CANCELLED);
    assert_non_null(strstr(e.text, "the same command goes on"));
    assert_false(is_there("out.gguf"));
    assert_true(is_there("out.gguf.shoal-part") && is_there("out.gguf.shoal-journal"));
}

static void test_interrupted_runs_go_on_from_there(void **state)
{
    (void)state;
    for (int call = 3; call < 20; call += 4) {
        interrupt_at("Q4_K_M", call);
        finish("Q4_K_M", "Q4_K_M.gguf", true);
    }
}

static void change_file(const char *name, long cut, const char *more)
{
    const char *path = folder_path(name);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    if (cut >= 0)
        assert_int_equal(truncate(path, cut > 0 ? st.st_size - cut : 0), 0);
    int fd = open(path, O_WRONLY | O_APPEND);
    assert_int_equal(write(fd, more, strlen(more)), (ssize_t)strlen(more));
    close(fd);
}

/* Whatever lies there, the output is right: what fits is gone on with, what does not is begun anew. */
static void test_what_was_left_is_checked(void **state)
{
    static const struct {
        const char *name, *more;
        long cut; /* bytes off the end; 0: all, -1: none */
        bool resumes;
    } cases[] = {
        {"out.gguf.shoal-journal", "done 1", -1, true},                       /* cut in the middle of a line */
        {"out.gguf.shoal-journal", "done 99999999999 1\n", -1, false},        /* more than there is */
        {"out.gguf.shoal-journal", "done 99999 0\n", -1, false},
        {"out.gguf.shoal-journal", "done 3 1234567890123456789\n", -1, true}, /* no place in a tensor: its beginning */
        {"out.gguf.shoal-journal", "\xFF\xFE nonsense\n\n", -1, true},
        {"out.gguf.shoal-journal", "", 0, false},
        {"out.gguf.shoal-journal", "shoal quantize of another job\ndone 5 0\n", 0, false},
        {"out.gguf.shoal-part", "", 5000, false},                             /* shorter than the journal says */
        {"out.gguf.shoal-part", "", 0, false},
        {"out.gguf.shoal-part", "what was written after the journal's line", -1, true},
        {"out.gguf.shoal-part", "GGUF", 0, false},
    };
    (void)state;
    for (size_t i = 0; i < COUNTOF(cases); i++) {
        interrupt_at("Q4_K_M", 9);
        change_file(cases[i].name, cases[i].cut, cases[i].more);
        finish("Q4_K_M", "Q4_K_M.gguf", cases[i].resumes);
    }
}

static void test_other_jobs_begin_anew(void **state)
{
    struct error e = {0};
    struct watched w = {0};
    (void)state;
    interrupt_at("Q4_K_M", 9);
    finish("Q8_0", "Q8_0.gguf", false); /* another type */

    interrupt_at("Q4_K_M", 9); /* another input of the same shape and name */
    assert_int_equal(rename(folder_path("in.gguf"), folder_path("kept.gguf")), 0);
    make("in.gguf", "f32", 8);
    assert_int_equal(quantize("in.gguf", "other.gguf", "Q4_K_M", &w, &e), 0);
    finish("Q4_K_M", "other.gguf", false);
    assert_int_equal(rename(folder_path("kept.gguf"), folder_path("in.gguf")), 0);
    assert_int_equal(unlink(folder_path("other.gguf")), 0);
}

static void change_input(void *arg, uint64_t done, uint64_t total)
{
    struct watched *w = arg;
    (void)done;
    (void)total;
    if (++w->calls == 3)
        assert_int_equal(utimensat(AT_FDCWD, folder_path("in.gguf"), NULL, 0), 0);
}

static void test_an_input_that_changes_is_refused(void **state)
{
    struct error e = {0};
    struct watched w = {0};
    struct quantize_options o = {.type = "Q8_0", .progress = change_input, .arg = &w};
    (void)state;
    char *in = mem_strdup(folder_path("in.gguf"));
    assert_int_equal(quantize_write(in, folder_path("out.gguf"), &o, &e), ERR_CORRUPT);
    assert_non_null(strstr(e.text, "was changed while it was read"));
    assert_false(is_there("out.gguf") || is_there("out.gguf.shoal-part") || is_there("out.gguf.shoal-journal"));
    mem_free(in);
}

/* No room: files of this process may not grow past the middle of the output. */
static void test_a_full_disk_keeps_what_is_done(void **state)
{
    struct error e = {0};
    struct watched w = {0};
    struct rlimit before, small;
    (void)state;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = (struct rlimit){400 << 10, before.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    int r = quantize("in.gguf", "out.gguf", "Q4_K_M", &w, &e);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(r, ERR_IO);
    assert_non_null(strstr(e.text, "is done and stays"));
    assert_false(is_there("out.gguf"));
    finish("Q4_K_M", "Q4_K_M.gguf", true);
}

static void test_one_writer_at_a_time(void **state)
{
    struct error e = {0};
    struct watched w = {0};
    (void)state;
    int fd = open(folder_path("out.gguf.shoal-part"), O_RDWR | O_CREAT, 0644);
    assert_true(fd >= 0);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    assert_int_equal(quantize("in.gguf", "out.gguf", "Q8_0", &w, &e), ERR_CONFLICT);
    assert_non_null(strstr(e.text, "another process is writing it"));
    assert_true(is_there("out.gguf.shoal-part"));
    close(fd);
    finish("Q8_0", "Q8_0.gguf", false);
}

/* The file that comes out is that of the whole model; to merge alone is a use. */
static void test_splits_are_one_input(void **state)
{
    struct error e = {0};
    struct watched w = {0};
    const struct splits_options o = {.n = 3};
    char name[] = "parts-00002-of-00003.gguf";
    (void)state;
    splits_write(folder_path("in.gguf"), folder_path("parts"), &o);
    assert_int_equal(quantize(name, "out.gguf", "Q4_K_M", &w, &e), 0);
    same_files("out.gguf", "Q4_K_M.gguf");
    w = (struct watched){0};
    assert_int_equal(quantize(name, "parts-00001-of-00003.gguf", "Q4_K_M", &w, &e), ERR_INVALID);
    assert_non_null(strstr(e.text, "is a file that is read"));

    w = (struct watched){.stop_at = 5}; /* any of them counts when going on */
    clean();
    assert_int_equal(quantize(name, "out.gguf", "Q4_K_M", &w, &e), ERR_CANCELLED);
    assert_int_equal(utimensat(AT_FDCWD, folder_path("parts-00003-of-00003.gguf"), NULL, 0), 0);
    w = (struct watched){0};
    assert_int_equal(quantize(name, "out.gguf", "Q4_K_M", &w, &e), 0);
    assert_int_equal(w.first, 0);
    same_files("out.gguf", "Q4_K_M.gguf");

    w = (struct watched){0};
    splits_write(folder_path("Q8_0.gguf"), folder_path("merge"), &o);
    assert_int_equal(quantize("merge-00001-of-00003.gguf", "out.gguf", "Q8_0", &w, &e), 0);
    same_files("out.gguf", "Q8_0.gguf");
    assert_int_equal(unlink(folder_path(name)), 0);
    assert_int_equal(quantize("parts-00001-of-00003.gguf", "out.gguf", "Q8_0", &w, &e), ERR_NOT_FOUND);
    assert_non_null(strstr(e.text, "00002-of-00003"));
}

enum { PROMPT = 12 };

/* Logits of a few tokens; the caller frees. */
static float *logits_of(const char *path, size_t *n)
{
    static const int32_t tokens[PROMPT] = {3, 1, 4, 15, 9, 2, 6, 5, 35, 8, 9, 7};
    struct route r;
    struct route_options o = {.path = path, .kv_type = KV_F32};
    route_open(&r, &o);
    *n = PROMPT * model_hparams(r.model)->n_vocab;
    float *logits = route_run(&r, 1, 0, tokens, PROMPT, PROMPT);
    route_close(&r);
    return logits;
}

static void check_folder(const char *folder, const char *type, double most)
{
    struct error e = {0};
    struct quantize_options o = {.type = type, .threads = 2};
    size_t n, m;
    double wrong = 0, all = 0;
    if (quantize_write(folder, folder_path("out.gguf"), &o, &e) != 0)
        fail_msg("%s: %s", folder, e.text);
    float *want = logits_of(folder, &n), *got = logits_of(folder_path("out.gguf"), &m);
    assert_int_equal(n, m);
    for (size_t i = 0; i < n; i++) {
        wrong += ((double)want[i] - (double)got[i]) * ((double)want[i] - (double)got[i]);
        all += (double)want[i] * (double)want[i];
    }
    if (wrong > all * most)
        fail_msg("%s as %s: %g", folder, type, wrong / all);
    mem_free(want);
    mem_free(got);
}

static size_t check_folders(const char *in)
{
    static const char *const types[] = {"BF16", "Q8_0", "MXFP4", "Q4_K_M"};
    DIR *d = opendir(in);
    size_t n = 0;
    for (struct dirent *entry = d ? readdir(d) : NULL; entry; entry = readdir(d)) {
        char *folder = path_join(in, entry->d_name), *config = path_join(folder, "config.json");
        if (path_exists(config)) {
            check_folder(folder, "F16", 1e-3);
            check_folder(folder, types[n++ % COUNTOF(types)], 0.2);
        }
        mem_free(config);
        mem_free(folder);
    }
    if (d)
        closedir(d);
    print_message("    %zu folders in %s\n", n, in);
    return n;
}

/* Checkpoints as Hugging Face transformers wrote them, and those that others quantised: in half precision they are the
 * same model (but for inputs in eight bits), in few bits about. */
static void test_folders_become_files(void **state)
{
    (void)state;
    assert_true(check_folders(CHECKPOINTS) > 10);
    assert_true(check_folders("tests/data/packed_models") > 4);
}

static int add_word(void *arg, struct gguf_writer *w, const char *folder, uint32_t n_vocab, struct error *e)
{
    struct watched *watched = arg;
    (void)e;
    assert_non_null(strstr(folder, "mixtral-fused"));
    assert_int_equal(n_vocab, 96);
    gguf_writer_string(w, "tokenizer.ggml.model", "no_vocab");
    watched->keys++;
    return 0;
}

/* Experts in one tensor come apart; a run that was interrupted between two rows goes on. */
static void test_folders_are_gone_on_with(void **state)
{
    struct gguf *g;
    (void)state;
    for (int call = 1; call < 40; call += 3) {
        struct watched w = {.stop_at = call}, keys = {0};
        struct quantize_options o = {.type = "Q8_0", .threads = 1, .sync_bytes = 1, .progress = see, .stop = stop,
                                     .add_keys = add_word, .arg = &w};
        int r = quantize_write(CHECKPOINTS "/mixtral-fused", folder_path("out.gguf"), &o, NULL);
        if (r == 0)
            break;
        assert_int_equal(r, ERR_CANCELLED);
        w = (struct watched){0};
        assert_int_equal(quantize_write(CHECKPOINTS "/mixtral-fused", folder_path("out.gguf"), &o, NULL), 0);
        assert_true(w.first > 0);
        o = (struct quantize_options){.type = "Q8_0", .threads = 1, .add_keys = add_word, .arg = &keys};
        assert_int_equal(quantize_write(CHECKPOINTS "/mixtral-fused", folder_path("whole.gguf"), &o, NULL), 0);
        assert_int_equal(keys.keys, 1);
        same_files("out.gguf", "whole.gguf");
    }
    assert_int_equal(gguf_open(&g, folder_path("whole.gguf"), NULL), 0);
    assert_null(gguf_tensor_find(g, "blk.0.ffn_gate_up_exps.weight"));
    assert_non_null(gguf_tensor_find(g, "blk.0.ffn_up_exps.weight"));
    assert_true(gguf_has(g, "llama.vocab_size") && gguf_has(g, "tokenizer.ggml.model"));
    gguf_close(&g);
}

static void test_quantised_twice_is_said(void **state)
{
    struct error e = {0};
    struct watched w = {0};
    (void)state;
    assert_int_equal(quantize("Q8_0.gguf", "out.gguf", "Q4_0", &w, &e), 0);
    assert_non_null(strstr(w.notes, "are quantised already (Q8_0"));
    clean();
    memset(&w, 0, sizeof(w));
    assert_int_equal(quantize("in.gguf", "out.gguf", "Q4_0", &w, &e), 0);
    assert_string_equal(w.notes, "");
    clean();
    static const char *const useless[] = {"Q8_0", "Q6_K"};
    for (size_t i = 0; i < COUNTOF(useless); i++) {
        assert_int_equal(quantize("Q4_K_M.gguf", "out.gguf", useless[i], &w, &e), ERR_INVALID);
        assert_non_null(strstr(e.text, "nothing would change"));
        assert_false(is_there("out.gguf") || is_there("out.gguf.shoal-part"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_killed_runs_go_on, set_up),
        cmocka_unit_test_setup(test_interrupted_runs_go_on_from_there, set_up),
        cmocka_unit_test_setup(test_what_was_left_is_checked, set_up),
        cmocka_unit_test_setup(test_other_jobs_begin_anew, set_up),
        cmocka_unit_test_setup(test_an_input_that_changes_is_refused, set_up),
        cmocka_unit_test_setup(test_a_full_disk_keeps_what_is_done, set_up),
        cmocka_unit_test_setup(test_one_writer_at_a_time, set_up),
        cmocka_unit_test_setup(test_splits_are_one_input, set_up),
        cmocka_unit_test_setup(test_folders_become_files, set_up),
        cmocka_unit_test_setup(test_folders_are_gone_on_with, set_up),
        cmocka_unit_test_setup(test_quantised_twice_is_said, set_up),
    };
    return cmocka_run_group_tests(tests, open_models, folder_close);
}
