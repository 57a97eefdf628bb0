/* show: what a model is made of, on standard output. */
#ifndef CLI_SHOW_H
#define CLI_SHOW_H

#include "shard/arch/arch.h"

void show_model(const struct model *m);

#endif
