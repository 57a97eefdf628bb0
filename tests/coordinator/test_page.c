/* test_page: who gets the page, with which headers, and when a browser has it already. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "coordinator/web/page.h"
#include "tests/coordinator/api_rig.h"

#define BROWSER "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"

/* The header's line from its name on, in the case that servers write it; NULL: it is not there. */
static const char *header_of(const struct reply *r, const char *name)
{
    return strstr(r->headers, name);
}

static void assert_header(const struct reply *r, const char *line)
{
    if (header_of(r, line) == NULL)
        fail_msg("no \"%s\" in:\n%s", line, r->headers);
}

/* The value of ETag, with its quotes; caller frees. */
static char *tag_of(const struct reply *r)
{
    const char *at = header_of(r, "ETag: ");
    assert_non_null(at);
    return mem_strndup(at + 6, strcspn(at + 6, "\r"));
}

static void test_browsers_get_the_page_and_clients_get_a_word(void **state)
{
    static const struct {
        const char *path, *header, *type, *begin;
    } rows[] = {
        { "/", BROWSER, "Content-Type: text/html; charset=utf-8\r\n", "<!doctype html>" },
        { "/", "Accept: */*", "Content-Type: text/plain; charset=utf-8\r\n", "Ollama is running" },
        { "/", "Accept: application/json", "Content-Type: text/plain; charset=utf-8\r\n", "Ollama is running" },
        { "/", "Accept: text/html;q=0, */*", "Content-Type: text/plain; charset=utf-8\r\n", "Ollama is running" },
        { "/ui", "Accept: */*", "Content-Type: text/html; charset=utf-8\r\n", "<!doctype html>" },
        { "/ui/", "Accept: */*", "Content-Type: text/html; charset=utf-8\r\n", "<!doctype html>" },
        { "/ui/ui/main.js", "Accept: */*", "Content-Type: text/javascript; charset=utf-8\r\n", "// main" },
    };
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct reply r = rig_call(*state, rows[i].path, NULL, rows[i].header);
        assert_int_equal(r.status, 200);
        assert_header(&r, rows[i].type);
        assert_memory_equal(r.body, rows[i].begin, strlen(rows[i].begin));
        if (strcmp(rows[i].path, "/") == 0)
            assert_header(&r, "Vary: Accept\r\n");
        reply_free(&r);
    }
}

static void test_the_page_is_confined(void **state)
{
    static const char *const lines[] = {
        "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; ",
        "require-trusted-types-for 'script'", "frame-ancestors 'none'", "X-Content-Type-Options: nosniff\r\n",
        "Referrer-Policy: no-referrer\r\n", "Cache-Control: no-cache\r\n",
    };
    struct reply r = rig_call(*state, "/", NULL, BROWSER);
    for (size_t i = 0; i < COUNTOF(lines); i++)
        assert_header(&r, lines[i]);
    assert_null(strstr(header_of(&r, "Content-Security-Policy"), "unsafe"));
    reply_free(&r);
}

/* Neither a page that draws text as HTML, nor one that asks others for its parts. */
static void test_every_file_is_there_and_asks_nobody_else(void **state)
{
    static const char *const types[][2] = {
        { ".html", "text/html; charset=utf-8\r\n" }, { ".css", "text/css; charset=utf-8\r\n" },
        { ".js", "text/javascript; charset=utf-8\r\n" }, { ".svg", "image/svg+xml\r\n" },
    };
    static const char *const banned[] = { "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write",
        "eval(", "new Function", "style=\"", "onclick=\"", "@import", "src=\"http", "href=\"http" };
    size_t n = 0;
    for (const char *name; (name = page_file(n)) != NULL; n++) {
        char path[200], type[200] = "";
        snprintf(path, sizeof(path), "/ui/%s", name);
        struct reply r = rig_call(*state, path, NULL, NULL);
        assert_int_equal(r.status, 200);
        for (size_t i = 0; i < COUNTOF(types); i++)
            if (strcmp(strrchr(name, '.'), types[i][0]) == 0)
                snprintf(type, sizeof(type), "Content-Type: %s", types[i][1]);
        assert_header(&r, type);
        for (size_t i = 0; i < COUNTOF(banned); i++)
            if (strstr(r.body, banned[i]) != NULL)
                fail_msg("%s has %s", name, banned[i]);
        reply_free(&r);
    }
    assert_true(n > 20);
}

static void test_nothing_else_is_served(void **state)
{
    static const char *const paths[] = { "/ui/page.c", "/ui/../routes.c", "/ui/%2e%2e/api/routes.c", "/ui/main.js/x",
        "/ui/main", "/ui/.js" };
    for (size_t i = 0; i < COUNTOF(paths); i++) {
        struct reply r = rig_call(*state, paths[i], NULL, NULL);
        assert_int_equal(r.status, 404);
        assert_non_null(reply_text(&r, "error.message"));
        reply_free(&r);
    }
    struct reply r = rig_call(*state, "/ui/main.js", "{}", NULL);
    assert_int_equal(r.status, 405);
    assert_header(&r, "Allow: GET");
    reply_free(&r);
}

static void assert_status_with_tag(void **state, const char *tag, int status)
{
    char header[300];
    snprintf(header, sizeof(header), "If-None-Match: %s", tag);
    struct reply r = rig_call(*state, "/ui/style.css", NULL, header);
    assert_int_equal(r.status, status);
    assert_true(status == 200 ? r.len > 0 : r.len == 0);
    assert_header(&r, "ETag: \"");
    reply_free(&r);
}

static void test_what_a_browser_has_is_not_sent_again(void **state)
{
    struct reply css = rig_call(*state, "/ui/style.css", NULL, NULL);
    struct reply script = rig_call(*state, "/ui/main.js", NULL, NULL);
    char *tag = tag_of(&css), *other = tag_of(&script);
    assert_string_not_equal(tag, other);
    char *weak = mem_printf("W/%s", tag), *several = mem_printf("%s, %s", other, tag);
    assert_status_with_tag(state, tag, 304);
    assert_status_with_tag(state, weak, 304);
    assert_status_with_tag(state, several, 304);
    assert_status_with_tag(state, "*", 304);
    assert_status_with_tag(state, other, 200);
    assert_status_with_tag(state, "\"\"", 200);
    mem_free(weak);
    mem_free(several);
    mem_free(tag);
    mem_free(other);
    reply_free(&css);
    reply_free(&script);
}

static void test_head_gives_the_headers_alone(void **state)
{
    int fd = rig_send_raw(*state, "HEAD / HTTP/1.1\r\nHost: localhost\r\n" BROWSER "\r\nConnection: close\r\n\r\n");
    char *answer = rig_read_raw(fd);
    assert_memory_equal(answer, "HTTP/1.1 200 OK\r\n", 17);
    assert_non_null(strstr(answer, "Content-Type: text/html; charset=utf-8\r\n"));
    assert_non_null(strstr(answer, "ETag: \""));
    assert_null(strstr(answer, "Content-Length: 0\r\n"));
    assert_string_equal(strstr(answer, "\r\n\r\n"), "\r\n\r\n");
    mem_free(answer);
}

static void test_the_page_needs_no_key(void **state)
{
    struct reply page = rig_call(*state, "/", NULL, BROWSER), file = rig_call(*state, "/ui/main.js", NULL, NULL);
    struct reply status = rig_call(*state, "/status", NULL, NULL);
    assert_int_equal(page.status, 200);
    assert_int_equal(file.status, 200);
    assert_int_equal(status.status, 401);
    reply_free(&page);
    reply_free(&file);
    reply_free(&status);
}

int main(void)
{
#define OPEN(f) cmocka_unit_test_setup_teardown(f, rig_start, rig_stop)
    const struct CMUnitTest tests[] = {
        OPEN(test_browsers_get_the_page_and_clients_get_a_word),
        OPEN(test_the_page_is_confined),
        OPEN(test_every_file_is_there_and_asks_nobody_else),
        OPEN(test_nothing_else_is_served),
        OPEN(test_what_a_browser_has_is_not_sent_again),
        OPEN(test_head_gives_the_headers_alone),
        cmocka_unit_test_setup_teardown(test_the_page_needs_no_key, rig_start_with_key, rig_stop),
    };
#undef OPEN
    return cmocka_run_group_tests(tests, NULL, NULL);
}
