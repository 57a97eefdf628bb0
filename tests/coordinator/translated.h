/* translated: requests of other families and what a translator makes of them. */
#ifndef TESTS_COORDINATOR_TRANSLATED_H
#define TESTS_COORDINATOR_TRANSLATED_H

#include "coordinator/api/private.h"

struct translated {
    const char *body, *expected; /* JSON, or what a refusal must name */
};

typedef int (*translate_fn)(const json_t *body, json_t **out, struct refusal *r);

/* Fails the test at the first row that is not as expected. */
void check_translated(const struct translated *rows, size_t n, translate_fn translate);

#endif
