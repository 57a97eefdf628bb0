/* translated: see translated.h. */
#include "tests/coordinator/translated.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"

static json_t *parse(const char *text)
{
    json_error_t why;
    json_t *j = json_loads(text, 0, &why);
    if (j == NULL)
        fail_msg("%s: %s", text, why.text);
    return j;
}

static void check_refused(const struct translated *row, int rc, const json_t *made, const struct refusal *r)
{
    if (rc == 0 || made != NULL || strcmp(r->param, row->expected) != 0 || strstr(r->error.text, row->expected) == NULL)
        fail_msg("%s should be refused because of %s, not \"%s\": %s", row->body, row->expected, r->param,
                 r->error.text);
}

static void check_made(const struct translated *row, int rc, const json_t *made, const struct refusal *r)
{
    json_t *expected = parse(row->expected);
    if (rc != 0 || !json_equal(made, expected)) {
        char *text = made == NULL ? mem_strdup(r->error.text) : json_text(made);
        fail_msg("%s\nshould be %s\nbut is    %s", row->body, row->expected, text);
    }
    json_decref(expected);
}

void check_translated(const struct translated *rows, size_t n, translate_fn translate)
{
    for (size_t i = 0; i < n; i++) {
        struct refusal r = { 0 };
        json_t *body = parse(rows[i].body), *made = NULL;
        int rc = translate(body, &made, &r);
        (rows[i].expected[0] == '{' ? check_made : check_refused)(&rows[i], rc, made, &r);
        json_decref(body);
        json_decref(made);
    }
}
