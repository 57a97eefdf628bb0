/* model_store: the models that were pulled: a folder for each, which people can read.
 *
 *     ~/.local/share/shoal/models/Qwen/Qwen3-0.6B-GGUF:Q4_K_M/
 *         Qwen3-0.6B-Q4_K_M.gguf
 *         shoal.json                where it came from, its files, their hashes
 *
 * (base/path.h, path_models_dir(), says where.)  The folder's path is the model's
 * name: up to three parts and a tag, "Qwen/Qwen3-0.6B-GGUF:Q4_K_M".  A model is
 * there when its folder has that name: what is being pulled lies in a folder with
 * a dot before its name, and is renamed when it is complete.
 *
 * Nothing here is kept in memory: every call looks at the disk, so several
 * processes, and threads, may use a store.                                    */
#ifndef COORDINATOR_PULL_MODEL_STORE_H
#define COORDINATOR_PULL_MODEL_STORE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum {
    MODEL_STORE_PARTS_MAX = 3,
    MODEL_STORE_PART_MAX = 96,   /* bytes of a part of a name */
    MODEL_STORE_NAME_MAX = 4 * (MODEL_STORE_PART_MAX + 1),
    MODEL_STORE_MODELS_MAX = 4096,
    MODEL_STORE_RECORD_MAX = 4 << 20,
};
#define MODEL_STORE_RECORD "shoal.json"

struct model_entry {
    char name[MODEL_STORE_NAME_MAX + 1]; /* with its tag */
    char *folder, *path;  /* path: what model_open() takes */
    char source[256];     /* "hf:Qwen/Qwen3-0.6B-GGUF" */
    char revision[128];   /* of the source */
    char format[16];      /* "gguf", "safetensors" */
    char quant[64];       /* "Q4_K_M"; "" when nobody said */
    char architecture[32]; /* "qwen3moe"; "": this version does not read it */
    uint64_t parameters;  /* 0: not known */
    char layers[64];      /* "4:8" where only those are here; "" */
    char digest[65];      /* SHA-256 of the record: another for every other content */
    uint64_t bytes;       /* of all files as the source has them */
    uint64_t disk_bytes;  /* that they take here: less where there are holes */
    int64_t modified;     /* seconds since 1970 */
    json_t *record;       /* all of shoal.json: "files": [{"name", "bytes", "sha256"}] ... */
};
void model_entry_close(struct model_entry *m);
void model_entries_free(struct model_entry **list, size_t n);

/* A whole name, with or without tag: parts of letters, digits, '.', '_' and '-' that begin with a letter or digit. */
MUST_USE int model_name_check(const char *name, struct error *e);
/* Where the model of a checked name with its tag lies, and where it is put together. Caller frees. */
char *model_store_folder(const char *name);
char *model_store_part_folder(const char *name);
/* Every file of the record lies in the folder with the length that it must have. */
bool model_store_is_whole(const json_t *record, const char *folder);

/* All models, by name. Caller frees with model_entries_free(). */
MUST_USE int model_store_list(struct model_entry **out, size_t *n, struct error *e);
/* The model of a name. Without its tag: the only one, "latest", or "Q4_K_M"; without what is before its last part:
 * where only one fits; who is called exactly so comes first. ERR_NOT_FOUND; ERR_CONFLICT: several fit, the sentence
 * names them. */
MUST_USE int model_store_find(struct model_entry *out, const char *name, struct error *e);
/* *freed: bytes of the disk. Also what an unfinished pull of the name left. *name_out (caller frees, may be NULL): what
 * was removed. ERR_CONFLICT: it is being pulled. */
MUST_USE int model_store_remove(const char *name, char **name_out, uint64_t *freed, struct error *e);
/* A second name of the same files, which take no room. ERR_CONFLICT: the name is taken. */
MUST_USE int model_store_copy(const char *from, const char *to, struct error *e);
/* Unfinished pulls: how many, and what they take. */
size_t model_store_unfinished(uint64_t *bytes);

/* Makes the folder of parts, and holds it until close(*lock): ERR_CONFLICT while another call does, in this process or
 * another. */
MUST_USE int model_store_begin(int *lock, const char *name, struct error *e);
/* Writes the record into the folder of parts, and gives it its name; a model of that name is replaced. */
MUST_USE int model_store_commit(const char *name, const json_t *record, struct error *e);

#endif
