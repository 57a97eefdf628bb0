/* goldens: where the recorded outputs of other implementations are. */
#ifndef TESTS_TEXT_GOLDENS_H
#define TESTS_TEXT_GOLDENS_H

#include <stdlib.h>

#include "base/memory.h"
#include "base/path.h"

/* The folder `name` of the goldens; caller frees. */
static inline char *goldens_dir(const char *name)
{
    const char *root = getenv("SHOAL_GOLDENS");
    return path_join(root ? root : "../shared/goldens", name);
}

#endif
