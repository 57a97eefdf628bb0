/* hf_parts: what the parts of shard/arch/hf share. Not for others. */
#ifndef SHARD_ARCH_HF_PARTS_H
#define SHARD_ARCH_HF_PARTS_H

#include <jansson.h>

#include "shard/arch/arch.h"
#include "shard/arch/hf.h"
#include "shard/format/packed.h"
#include "shard/format/safetensors.h"

enum hf_limits {
    HF_JSON_BYTES_MAX = 64 << 20, /* of an index; a config has less */
    HF_CONFIG_BYTES_MAX = 4 << 20,
    HF_FILES_MAX = 4096,
    HF_BANDS_MAX = 3,
    HF_NAME_BYTES = 320,
};

/* ---- the files ---- */

struct hf_file {
    char *name;
    struct safetensors *tensors; /* NULL: JSON, all of it head */
    uint64_t bytes;
};

/* A tensor of a file. */
struct hf_found {
    const struct st_tensor *t;
    uint32_t file;
    bool used; /* in the list of all: some tensor of the model is made of it */
};

struct hf {
    char *path;
    struct hf_file *files;
    size_t n_files;
    struct hf_found *all; /* tensors of all files, by name */
    size_t n_all;
    const char *prefix; /* of the language model's tensors: "model." */
    struct packed *packed; /* NULL: nothing is quantised */
    struct hf_tensor *tensors;
    size_t n_tensors;
};

/* hf_folder.c.  load: an object. */
MUST_USE int hf_load_json(const struct hf *h, const char *name, size_t bytes_max, json_t **out, struct error *e);
MUST_USE int hf_open_files(struct hf *h, struct error *e);
void hf_close_files(struct hf *h);
/* All files, JSON first. */
MUST_USE int hf_open_set(const struct hf *h, struct file_set **out, struct error *e);
/* By its full name; NULL when absent. */
struct hf_found *hf_find(const struct hf *h, const char *name);
/* A tensor that nothing used and that is not known to be for something else. n_layers: those past them are extra. */
MUST_USE int hf_refuse_unused(const struct hf *h, uint32_t n_layers, const char *family, struct error *e);

/* ---- numbers ---- */

enum hf_family_flags {
    HF_HALVES = 1 << 0,    /* q and k are for RoPE of halves; the rules' are for pairs */
    HF_PLUS_ONE = 1 << 1,  /* norms are stored less one */
    HF_CHOICE = 1 << 2,    /* sliding_window counts only where use_sliding_window is true */
};

struct hf_family {
    const char *model_type;
    const char *arch;
    uint32_t flags;
    const char *defaults; /* JSON: what a config that leaves a key out means */
};

size_t hf_family_count(void);
const struct hf_family *hf_family_at(size_t i);
const struct hf_family *hf_family_find(const char *model_type);

/* A config under work. Lookups see the text model's part first, then the whole, then the family's defaults. */
struct hf_config {
    const struct hf *h;
    const struct hf_family *family;
    const struct arch *arch;
    json_t *root, *text, *defaults;
    struct gguf_writer *w;
    struct error *e;
    int status; /* the first failure */
    uint32_t n_layers, n_embd, n_heads, n_kv_heads, head_dim, n_rot, n_experts, context;
    uint32_t nope_dim, value_dim;               /* compressed attention: of a head, not rotated; values */
    uint32_t k_heads, v_heads, k_dim, v_dim;    /* layers with a state */
    float *divisors[3]; /* of the tensors rope_freqs, rope_factors_long and _short, n_rot / 2 each; NULL: none */
};

/* hf_config.c.  get: NULL for null too.  Numbers: `missing` when absent; UINT32_MAX missing: required. */
const json_t *hf_get(const struct hf_config *c, const char *key);
uint32_t hf_count(struct hf_config *c, const char *key, uint32_t missing);
double hf_real(struct hf_config *c, const char *key, double missing);
double hf_real_in(struct hf_config *c, const json_t *object, const char *key, double missing);
void hf_refuse(struct hf_config *c, const char *key, const char *words);
void hf_put_u32(struct hf_config *c, const char *key, uint32_t v);
void hf_put_f32(struct hf_config *c, const char *key, double v);
void hf_put_text(struct hf_config *c, const char *key, const char *v);
MUST_USE int hf_config_open(struct hf_config *c, const struct hf *h, struct gguf_writer *w, struct error *e);
/* Every key of the header. */
MUST_USE int hf_config_write(struct hf_config *c);
void hf_config_close(struct hf_config *c);
/* hf_rope.c */
void hf_write_rope(struct hf_config *c);

/* ---- tensors ---- */

/* Where along an axis of the file's matrix lies place i of ours: first i is shuffled, ((o*a + x)*b + y)*inner + z to
 * ((o*b + y)*a + x)*inner + z (a 0: not at all); then it is at first + i / block * stride + i % block * step (block 0:
 * all are one). */
struct hf_axis {
    uint64_t n; /* places of ours */
    uint64_t a, b, inner;
    uint64_t first, block, stride, step;
};

enum hf_change { HF_AS_IS, HF_ADD_ONE, HF_MINUS_EXP };

/* One matrix, or one of every slice, in the files. */
struct hf_source {
    struct hf_found parts[PACKED_PARTS]; /* the first holds the values; others what stored types need beside them */
    uint32_t n_parts;
    struct packed_matrix packed; /* without a type: a plain one */
};

struct hf_tensor {
    char name[GGUF_NAME_MAX + 1];
    const struct qtype *type; /* as the header has it */
    const struct qtype *from; /* as the files have it; NULL: made up */
    uint32_t n_dims;
    uint64_t ne[3];
    struct hf_source *sources; /* one, or one a slice */
    size_t n_sources;
    uint64_t file_rows, file_cols; /* of a slice */
    bool turned;               /* the file's columns are our rows */
    struct hf_axis rows[HF_BANDS_MAX]; /* one after the other */
    uint32_t n_bands;
    struct hf_axis cols;
    enum hf_change change;
    float *values;             /* made up: all of it */
};

/* Which way a tensor lies in the file; what they mean is hf_tensors.c's. */
enum hf_layout {
    HF_PLAIN,
    HF_NORM,            /* less one in some families */
    HF_Q, HF_QKV,       /* heads for RoPE of halves in some; QKV: q, k and v one after the other */
    HF_FIRST, HF_SECOND, /* half of the rows */
    HF_EVEN, HF_ODD,    /* every other column */
    HF_TURNED, HF_TURNED_FIRST, HF_TURNED_SECOND, HF_TURNED_EVEN, HF_TURNED_ODD, /* columns are rows */
    HF_EVEN_ROWS, HF_ODD_ROWS, /* of packed matrices, which are not turned */
    HF_K_UP, HF_V_UP,   /* of compressed attention: a head's keys, turned, and its values, in one */
    HF_QKVZ_QKV, HF_QKVZ_Z, /* of layers with a state: by key heads */
    HF_DELTA_CHANNELS, HF_DELTA_VALUES, HF_DELTA_HEADS, HF_DELTA_OUT, /* value heads in another order in some */
    HF_DECAY,           /* as HF_DELTA_HEADS, a logarithm */
};

/* A row: the rules' name, the folder's (%u: the layer, %e: the expert), and for which families. */
struct hf_name {
    const char *ours, *theirs;
    enum hf_layout layout;
    uint32_t with, without; /* enum arch_flags; 0: any family */
};

size_t hf_name_count(void);
const struct hf_name *hf_name_at(size_t i);

/* hf_tensors.c.  lay: how a tensor of this row of names lies when it has so many rows and columns in the file: t's
 * axes, and in ne[2] its slices. False: the two do not go with the numbers, of which c needs no more than those of the
 * model. */
bool hf_lay(struct hf_tensor *t, enum hf_layout layout, const struct hf_config *c, uint64_t rows, uint64_t cols);
bool hf_name_applies(const struct hf_name *name, const struct hf_config *c);
/* Everything that the rows find, in the order in which it lies in the files, declared to c->w. */
MUST_USE int hf_make_tensors(struct hf *h, struct hf_config *c, struct error *e);
void hf_free_tensors(struct hf *h);

/* hf_read.c */
uint64_t hf_axis_at(const struct hf_axis *x, uint64_t i);
uint64_t hf_file_row(const struct hf_tensor *t, uint64_t row);
bool hf_axis_is_straight(const struct hf_axis *x);

/* hf_packed.c.  find: the packed matrix of a name, if there is one (else no parts). */
MUST_USE int hf_find_packed(struct hf *h, const char *name, struct hf_source *out, struct error *e);
/* Rows of a tensor as its type stores them. */
MUST_USE int hf_read_packed(const struct hf *h, const struct hf_tensor *t, uint64_t slice, uint64_t row, uint64_t n,
                            void *out, struct error *e);
void hf_release_packed(const struct hf *h, const struct hf_tensor *t, uint64_t slice);

#endif
