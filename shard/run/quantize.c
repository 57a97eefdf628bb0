/* quantize: declare every tensor in its new type, then stream them, and keep a journal of how far that came. */
#include "shard/run/quantize.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/progress.h"
#include "shard/arch/arch.h"
#include "shard/arch/mix.h"
#include "shard/run/convert.h"
#include "shard/run/journal.h"

enum {
    SYNC_BYTES = 16 << 20,
    JOURNAL_HEAD_MAX = 1 << 20,
};

struct job {
    const char *in, *out;
    const struct quantize_options *o;
    const struct mix *mix;
    struct mix_model about;
    struct error *e;
    struct model *model;  /* of a folder; NULL: the input is a file */
    struct gguf *file;
    const struct gguf *g; /* the header of either */
    struct gguf_writer *w;
    struct wanted *wanted; /* the output's tensors */
    size_t n_wanted;
    struct converter *converter;
    uint64_t done, total; /* bytes of the input */
    char *part, *journal_path, *what; /* what: the journal's first lines */
    struct journal *journal;
    uint64_t unsafe;      /* bytes written since the journal's last place */
};

/* What is kept of a tensor must be of a type that files have; weights that a checkpoint has in others always change. */
static const struct qtype *type_of(const struct job *j, const struct wanted *w)
{
    const struct qtype *from = qtype_in_files(w->t->type) ? w->t->type : qtype_find(QTYPE_F32);
    return mix_type(j->mix, &j->about, w->name, from, w->ne);
}

static uint64_t value_count(const struct wanted *w)
{
    return w->ne[0] * w->ne[1] * w->ne[2] * w->ne[3];
}

static uint64_t type_bytes(const struct qtype *t, uint64_t values)
{
    return values / t->block_len * t->block_bytes;
}

/* What was written so far is safe, and the journal says so. */
static int make_safe(struct job *j)
{
    struct journal_place place;
    gguf_writer_place(j->w, &place.tensor, &place.in_tensor);
    int r = gguf_writer_sync(j->w, j->e);
    if (r == 0)
        r = journal_add(j->journal, place, j->e);
    j->unsafe = 0;
    return r;
}

static int write_made(struct job *j, const void *bytes, size_t n, uint64_t n_read)
{
    uint64_t most = j->o->sync_bytes ? j->o->sync_bytes : SYNC_BYTES;
    int r = gguf_writer_data(j->w, bytes, n, j->e);
    j->done += n_read;
    j->unsafe += n;
    if (r == 0 && j->unsafe >= most)
        r = make_safe(j);
    if (r == 0 && j->o->progress)
        j->o->progress(j->o->arg, j->done, j->total);
    if (r != 0 || !j->o->stop || !j->o->stop(j->o->arg))
        return r;
    r = make_safe(j);
    return r ? r : error_set(j->e, ERR_CANCELLED, "interrupted at %.0f %%; the same command goes on from there",
                             100.0 * (double)j->done / (double)j->total);
}

/* `from`: bytes of the output tensor that are there already. */
static int write_tensor(struct job *j, const struct wanted *w, uint64_t from)
{
    const struct qtype *to = type_of(j, w);
    uint64_t all = value_count(w), most = converter_most(j->converter, w);
    int r = 0;
    for (uint64_t at = from / to->block_bytes * to->block_len; r == 0 && at < all; at += most) {
        uint64_t n = all - at < most ? all - at : most;
        const void *blocks;
        r = converter_run(j->converter, w, to, at, n, &blocks, j->e);
        if (r == 0)
            r = write_made(j, blocks, (size_t)type_bytes(to, n), type_bytes(w->t->type, n));
    }
    return r;
}

/* Everything but what says how the input was stored. */
static void copy_keys(struct job *j)
{
    static const char *const own[] = {"general.file_type", "general.quantization_version", "general.alignment",
                                      "split.no", "split.count", "split.tensors.count"};
    for (size_t i = 0; i < gguf_key_count(j->g); i++) {
        struct gguf_string key = gguf_key_at(j->g, i);
        bool keep = true;
        for (size_t k = 0; k < COUNTOF(own); k++)
            keep = keep && !gguf_string_is(key, own[k]);
        if (keep)
            gguf_writer_copy_key(j->w, j->g, i);
    }
    gguf_writer_u32(j->w, "general.file_type", j->mix->file_type);
    gguf_writer_u32(j->w, "general.quantization_version", 2);
}

/* Of a folder: what follows from its tensors here, but other readers want to be told. */
static void complete_keys(const struct job *j)
{
    const struct hparams *h = model_hparams(j->model);
    const struct {
        const char *name;
        uint32_t value;
    } counts[] = {
        {"vocab_size", h->n_vocab},
        {"expert_feed_forward_length", h->n_expert_ffn},
        {"expert_shared_feed_forward_length", h->n_shared_ffn},
        {"expert_gating_func", h->arch->flags & ARCH_ROUTER_KEYS ? h->scores + 1U : 0}, /* softmax, sigmoid */
    };
    char key[ARCH_KEY_BYTES];
    for (size_t i = 0; i < COUNTOF(counts); i++)
        if (counts[i].value > 0 && !gguf_has(j->g, arch_key(h->arch, counts[i].name, key)))
            gguf_writer_u32(j->w, key, counts[i].value);
    arch_key(h->arch, "rope.dimension_sections", key);
    if (h->arch->flags & ARCH_SECTIONS && !gguf_has(j->g, key)) {
        int32_t sections[4];
        arch_sections(h->n_rot, sections);
        gguf_writer_i32s(j->w, key, sections, COUNTOF(sections));
    }
}

static void note(const struct job *j, const char *format, ...) PRINTF_LIKE(2, 3);
static void note(const struct job *j, const char *format, ...)
{
    struct error sentence;
    va_list args;
    if (!j->o->note)
        return;
    va_start(args, format);
    (void)error_setv(&sentence, ERR_INVALID, format, args);
    va_end(args);
    j->o->note(j->o->arg, sentence.text);
}

/* Refuses what would change nothing, and says what would lose twice. */
static int check_gain(const struct job *j)
{
    size_t changed = 0, twice = 0;
    const char *was = "";
    for (size_t i = 0; i < j->n_wanted; i++) {
        const struct qtype *from = j->wanted[i].t->type, *to = type_of(j, &j->wanted[i]);
        changed += to != from;
        if (to == from || from->block_len == 1 || to->block_len == 1)
            continue;
        was = twice++ == 0 ? from->name : was;
    }
    if (changed == 0 && file_set_count(gguf_files(j->g)) == 1)
        return error_set(j->e, ERR_INVALID, "%s: every matrix takes no more than it would as %s already; nothing would "
                         "change", j->in, j->mix->name);
    if (twice > 0)
        note(j, "%zu matrices of %s are quantised already (%s and the like): quantised again they lose twice; take "
                "the original weights where you have them", twice, j->in, was);
    return 0;
}

static int declare(struct job *j)
{
    int r = 0;
    copy_keys(j);
    if (j->model)
        complete_keys(j);
    if (j->model && j->o->add_keys)
        r = j->o->add_keys(j->o->arg, j->w, j->in, model_hparams(j->model)->n_vocab, j->e);
    for (size_t i = 0; i < j->n_wanted; i++) {
        const struct wanted *w = &j->wanted[i];
        gguf_writer_tensor(j->w, w->name, type_of(j, w), w->t->n_dims, w->ne);
        j->total += type_bytes(w->t->type, value_count(w));
    }
    return r;
}

/* What the output is made of: another input, type or version makes other bytes. */
static char *describe(const struct job *j)
{
    const struct file_set *files = gguf_files(j->g);
    struct buffer b;
    buffer_init(&b, JOURNAL_HEAD_MAX);
    buffer_printf(&b, "shoal quantize %s\ntype %s\n", SHOAL_VERSION, j->mix->name);
    for (size_t i = 0; i < file_set_count(files); i++) {
        struct stat st = {0};
        (void)file_set_stat(files, i, &st);
        buffer_printf(&b, "input %jd bytes of %jd.%09ld\n", (intmax_t)st.st_size, (intmax_t)st.st_mtim.tv_sec,
                      st.st_mtim.tv_nsec);
    }
    return buffer_take(&b, NULL);
}

/* Before hours are spent: is there room for what is not written yet? */
static int check_room(const struct job *j)
{
    struct stat st = {0};
    struct statvfs disk;
    char need_text[32], free_text[32];
    if (stat(j->part, &st) != 0 || statvfs(j->part, &disk) != 0)
        return 0;
    uint64_t there = (uint64_t)st.st_blocks * 512, all = gguf_writer_bytes(j->w);
    uint64_t need = all > there ? all - there : 0, free_bytes = (uint64_t)disk.f_bavail * disk.f_frsize;
    if (need <= free_bytes)
        return 0;
    return error_set(j->e, ERR_IO, "%s: needs %s more, and its disk has %s free", j->out,
                     progress_bytes(need, need_text), progress_bytes(free_bytes, free_text));
}

/* Where an earlier run was interrupted, else the beginning. A place inside a tensor is the end of a round. */
static struct journal_place find_place(const struct job *j)
{
    struct journal_place place = journal_find(j->journal_path, j->what);
    if (place.tensor < j->n_wanted) {
        const struct wanted *w = &j->wanted[place.tensor];
        const struct qtype *to = type_of(j, w);
        uint64_t values = place.in_tensor / to->block_bytes * to->block_len;
        if (place.in_tensor % to->block_bytes != 0 || values % converter_step(j->converter, w) != 0)
            place.in_tensor = 0;
    }
    if (gguf_writer_go_on(j->w, place.tensor, place.in_tensor))
        return place;
    return (struct journal_place){0};
}

static void count_done(struct job *j, struct journal_place place)
{
    for (size_t i = 0; i < j->n_wanted && i <= place.tensor; i++) {
        const struct wanted *w = &j->wanted[i];
        const struct qtype *to = type_of(j, w);
        uint64_t part = place.in_tensor / to->block_bytes * to->block_len;
        j->done += type_bytes(w->t->type, i < place.tensor ? value_count(w) : part);
    }
    if (j->done > 0)
        note(j, "going on with %s, which is %.0f %% done", j->part, 100.0 * (double)j->done / (double)j->total);
    if (j->o->progress)
        j->o->progress(j->o->arg, j->done, j->total);
}

static int begin(struct job *j, struct journal_place *place)
{
    int r = declare(j);
    if (r == 0)
        r = gguf_writer_header(j->w, j->e);
    if (r != 0)
        return r;
    *place = find_place(j);
    if (place->tensor == 0 && place->in_tensor == 0 && !gguf_writer_go_on(j->w, 0, 0))
        return error_set(j->e, ERR_IO, "%s: cannot be written from its beginning", j->part);
    r = journal_open(&j->journal, j->journal_path, j->what, *place, j->e);
    count_done(j, *place);
    return r == 0 ? check_room(j) : r;
}

/* An input that changed meanwhile would give a mixture of two. */
static int check_input(const struct job *j)
{
    char *now = describe(j);
    int r = strcmp(now, j->what) != 0 ? error_set(j->e, ERR_CORRUPT, "%s: was changed while it was read", j->in) : 0;
    mem_free(now);
    return r;
}

static int write_all(struct job *j)
{
    struct journal_place place;
    int r = begin(j, &place);
    for (uint64_t i = place.tensor; r == 0 && i < j->n_wanted; i++)
        r = write_tensor(j, &j->wanted[i], i == place.tensor ? place.in_tensor : 0);
    if (r == 0)
        r = check_input(j);
    return r == 0 ? gguf_writer_finish(&j->w, j->e) : r;
}

/* A number of the file's architecture, 0 when it is not there. */
static uint64_t arch_number(const struct gguf *g, const char *what)
{
    struct gguf_string arch;
    char key[GGUF_KEY_MAX + 1];
    uint64_t v = 0;
    if (!gguf_get_string(g, "general.architecture", &arch) || arch.len > GGUF_KEY_MAX)
        return 0;
    int n = snprintf(key, sizeof(key), "%.*s.%s", (int)arch.len, arch.text, what);
    return n > 0 && (size_t)n < sizeof(key) && gguf_get_u64(g, key, &v) ? v : 0;
}

static int check_output(const struct job *j)
{
    const struct file_set *files = gguf_files(j->g);
    struct stat in, out;
    for (size_t i = 0; stat(j->out, &out) == 0 && i < file_set_count(files); i++)
        if (file_set_stat(files, i, &in) && in.st_dev == out.st_dev && in.st_ino == out.st_ino)
            return error_set(j->e, ERR_INVALID, "%s is a file that is read; name another", j->out);
    return 0;
}

static void want(struct job *j, const struct gguf_tensor *t, const char *name, uint64_t row, uint64_t rows)
{
    struct wanted *w = &j->wanted[j->n_wanted++];
    *w = (struct wanted){.t = t, .row = row, .ne = {t->ne[0], rows, t->ne[2], t->ne[3]}};
    snprintf(w->name, sizeof(w->name), "%s", name);
}

/* What the input has; but experts' gates and ups that a folder has in one, which few readers of GGUF take, apart. */
static void want_tensors(struct job *j)
{
    static const char both[] = ".ffn_gate_up_exps.weight";
    j->wanted = mem_array(2 * gguf_tensor_count(j->g) + 1, sizeof(*j->wanted));
    for (size_t i = 0; i < gguf_tensor_count(j->g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(j->g, i);
        const char *tail = j->model ? strstr(t->name, both) : NULL;
        char name[GGUF_NAME_MAX + 1];
        if (!tail) {
            want(j, t, t->name, 0, t->ne[1]);
            continue;
        }
        snprintf(name, sizeof(name), "%.*s.ffn_gate_exps.weight", (int)(tail - t->name), t->name);
        want(j, t, name, 0, t->ne[1] / 2);
        snprintf(name, sizeof(name), "%.*s.ffn_up_exps.weight", (int)(tail - t->name), t->name);
        want(j, t, name, t->ne[1] / 2, t->ne[1] / 2);
    }
}

static int open_input(struct job *j)
{
    int r = path_is_folder(j->in) ? model_open(&j->model, j->in, j->e) : gguf_open(&j->file, j->in, j->e);
    if (r != 0)
        return r;
    j->g = j->model ? model_file(j->model) : j->file;
    r = file_set_whole(gguf_files(j->g), j->e);
    if (r == 0)
        r = check_output(j);
    if (r != 0)
        return r;
    j->about = (struct mix_model){arch_number(j->g, "block_count"), arch_number(j->g, "expert_count"),
                                  !gguf_tensor_find(j->g, "output.weight")};
    j->what = describe(j);
    want_tensors(j);
    return 0;
}

static int open_all(struct job *j)
{
    j->mix = mix_find(j->o->type);
    if (!j->mix)
        return error_set(j->e, ERR_INVALID, "there is no type \"%s\" to write; there are %s", j->o->type, mix_list());
    int r = open_input(j);
    if (r == 0)
        r = check_gain(j);
    if (r == 0)
        r = converter_open(&j->converter, j->model, j->g, j->o->threads, j->e);
    if (r == 0)
        r = gguf_writer_create_part(&j->w, j->out, j->part, j->e);
    return r;
}

/* What is there already stays where going on can help. */
static int end(struct job *j, int status)
{
    char text[sizeof(j->e->text)];
    bool stays = (status == ERR_CANCELLED || status == ERR_IO) && j->done > 0;
    if (j->w && !stays)
        (void)unlink(j->journal_path);
    if (!stays)
        gguf_writer_discard(&j->w);
    if (!stays || status != ERR_IO || !j->e)
        return status;
    snprintf(text, sizeof(text), "%s", j->e->text);
    return error_set(j->e, ERR_IO, "%s; %.0f %% is done and stays: the same command goes on from there", text,
                     100.0 * (double)j->done / (double)j->total);
}

static void close_all(struct job *j)
{
    journal_close(&j->journal);
    gguf_writer_abort(&j->w);
    converter_close(&j->converter);
    model_close(&j->model);
    gguf_close(&j->file);
    mem_free(j->wanted);
    mem_free(j->part);
    mem_free(j->journal_path);
    mem_free(j->what);
}

int quantize_write(const char *in, const char *out, const struct quantize_options *o, struct error *e)
{
    struct job j = {.in = in, .out = out, .o = o, .e = e};
    j.part = mem_printf("%s.shoal-part", out);
    j.journal_path = mem_printf("%s.shoal-journal", out);
    int r = open_all(&j);
    if (r == 0)
        r = write_all(&j);
    if (r == 0)
        (void)unlink(j.journal_path);
    else
        r = end(&j, r);
    close_all(&j);
    return r;
}
