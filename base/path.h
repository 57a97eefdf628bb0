/* path: files and folders: the house's own places, whole-file reads with a cap, atomic writes. */
#ifndef BASE_PATH_H
#define BASE_PATH_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/error.h"

/* $XDG_STATE_HOME/shoal or ~/.local/state/shoal, and $XDG_CACHE_HOME/shoal or ~/.cache/shoal
 * (SHOAL_STATE_DIR and SHOAL_CACHE_DIR override). Caller frees. */
char *path_state_dir(void);
char *path_cache_dir(void);
/* Where pulled models lie: SHOAL_MODELS_DIR, $XDG_DATA_HOME/shoal/models or ~/.local/share/shoal/models. */
char *path_models_dir(void);
char *path_join(const char *dir, const char *name); /* caller frees */
/* mkdir -p; new folders get `mode`. */
MUST_USE int path_make_dirs(const char *path, mode_t mode, struct error *e);
/* The whole file, NUL-terminated past its end; caller frees. ERR_LIMIT past bytes_max. Regular files only. */
MUST_USE int path_read(const char *path, size_t bytes_max, char **data, size_t *len, struct error *e);
/* temp file + fsync + rename, so that a crash leaves the old or the new bytes.
 * The file gets exactly `mode`. A device or a pipe gets the bytes and stays what it is. */
MUST_USE int path_write_atomic(const char *path, const void *data, size_t len, mode_t mode, struct error *e);
bool path_exists(const char *path);
bool path_is_folder(const char *path);

#endif
