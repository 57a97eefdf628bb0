/* test_openapi: the document and the table that the server answers by say the same. */
#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "coordinator/api/routes.h"
#include "tests/coordinator/api_rig.h"

static json_t *path_item(const json_t *document, const struct http_route *route)
{
    char path[200];
    snprintf(path, sizeof(path), "%s%s", route->path, (route->flags & HTTP_PREFIX) != 0 ? "{id}" : "");
    return json_object_get(json_object_get(document, "paths"), path);
}

static json_t *operation_of(const json_t *document, const struct http_route *route)
{
    char method[16] = "";
    for (size_t i = 0; route->method[i] != '\0' && i + 1 < sizeof(method); i++)
        method[i] = (char)tolower((unsigned char)route->method[i]);
    return json_object_get(path_item(document, route), method);
}

static void test_every_route_is_described_and_nothing_else(void **state)
{
    (void)state;
    size_t n, described = 0, of_page = 0;
    struct http_route *routes = api_http_routes(&n);
    json_t *document = api_openapi_json(RIG_NAME), *item;
    const char *path;
    for (size_t i = 0; i < n; i++) {
        json_t *o = operation_of(document, &routes[i]);
        if ((routes[i].flags & OF_PAGE) != 0) {
            of_page++;
            continue;
        }
        if (o == NULL)
            fail_msg("%s %s is not in the document", routes[i].method, routes[i].path);
        assert_int_equal(json_array_size(json_object_get(o, "security")) > 0,
                         (routes[i].flags & (FOR_USERS | FOR_OPERATOR)) != 0);
        for (size_t k = 0; k < i; k++)
            if (strcmp(routes[i].path, routes[k].path) == 0 && strcmp(routes[i].method, routes[k].method) == 0)
                fail_msg("%s %s is in the table twice", routes[i].method, routes[i].path);
    }
    json_object_foreach(json_object_get(document, "paths"), path, item)
        described += json_object_size(item);
    assert_int_equal(described + of_page, n);
    mem_free(routes);
    json_decref(document);
}

static void test_rows_are_whole(void **state)
{
    (void)state;
    json_t *document = api_openapi_json(RIG_NAME);
    const json_t *schemas = json_object_get(json_object_get(document, "components"), "schemas");
    assert_true(json_object_size(schemas) > 10);
    for (size_t i = 0; i < api_route_count(); i++) {
        const struct api_route *r = api_route_at(i);
        bool json = strchr(r->response, '/') == NULL;
        const json_t *request = r->request == NULL ? NULL : json_object_get(schemas, r->request);
        if (strlen(r->summary) < 10 || (json && json_object_get(schemas, r->response) == NULL) ||
            (r->event != NULL && json_object_get(schemas, r->event) == NULL))
            fail_msg("%s %s: its summary or the schemas of its answers are missing", r->method, r->path);
        if (((r->flags & HTTP_BODY) != 0 && r->request == NULL) ||
            (r->request != NULL && json_array_size(json_object_get(request, "examples")) == 0))
            fail_msg("%s %s: the schema of its body, with an example, is missing", r->method, r->path);
    }
    json_decref(document);
}

static void check_references(const json_t *schemas, const json_t *j)
{
    static const char prefix[] = "#/components/schemas/";
    const char *key, *name = json_string_value(json_object_get(j, "$ref"));
    const json_t *part;
    size_t i;
    if (name != NULL && (strncmp(name, prefix, strlen(prefix)) != 0 ||
                         json_object_get(schemas, name + strlen(prefix)) == NULL))
        fail_msg("%s leads nowhere", name);
    json_object_foreach((json_t *)(uintptr_t)j, key, part)
        check_references(schemas, part);
    json_array_foreach(j, i, part)
        check_references(schemas, part);
}

static void test_references_lead_somewhere(void **state)
{
    (void)state;
    json_t *document = api_openapi_json(RIG_NAME);
    check_references(json_object_get(json_object_get(document, "components"), "schemas"), document);
    json_decref(document);
}

/* Whether a GET asks for a thing, which may not be there, by its name. */
static bool gets_a_thing(const struct http_route *routes, size_t n, const char *path)
{
    bool found = false;
    for (size_t i = 0; i < n; i++)
        found = found || ((routes[i].flags & HTTP_PREFIX) != 0 && strcmp(routes[i].method, "GET") == 0 &&
                          strncmp(path, routes[i].path, strlen(routes[i].path)) == 0);
    return found;
}

/* What is described is there, and a method that is not is refused with those that are. */
static void test_methods_are_as_described(void **state)
{
    const struct rig *rig = *state;
    size_t n;
    struct http_route *routes = api_http_routes(&n);
    json_t *document = api_openapi_json(RIG_NAME);
    for (size_t i = 0; i < n; i++) {
        const json_t *item = path_item(document, &routes[i]);
        char path[200];
        if ((routes[i].flags & OF_PAGE) != 0)
            continue;
        snprintf(path, sizeof(path), "%s%s", routes[i].path, (routes[i].flags & HTTP_PREFIX) != 0 ? RIG_NAME : "");
        bool thing = gets_a_thing(routes, n, path);
        struct reply get = rig_call(rig, path, NULL, "Authorization: Bearer " RIG_ADMIN);
        struct reply post = rig_call(rig, path, "{]", "Authorization: Bearer " RIG_ADMIN);
        if ((get.status != 405) != (thing || json_object_get(item, "get") != NULL) ||
            (post.status != 405) != (json_object_get(item, "post") != NULL) || (get.status == 404 && !thing) ||
            post.status == 404)
            fail_msg("%s: GET %d, POST %d", path, get.status, post.status);
        reply_free(&get);
        reply_free(&post);
    }
    mem_free(routes);
    json_decref(document);
}

static void test_all_methods_of_a_path_are_named(void **state)
{
    int fd = rig_send_raw(*state, "PUT /admin/keys HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n"
                          "Connection: close\r\n\r\n");
    char *answer = rig_read_raw(fd);
    assert_memory_equal(answer, "HTTP/1.1 405 ", 13);
    assert_non_null(strstr(answer, "Allow: GET, POST\r\n"));
    mem_free(answer);
}

/* A slash at the end changes nothing. */
static void test_a_trailing_slash_is_nothing(void **state)
{
    const struct rig *rig = *state;
    size_t n;
    struct http_route *routes = api_http_routes(&n);
    for (size_t i = 0; i < n; i++) {
        bool prefix = (routes[i].flags & HTTP_PREFIX) != 0;
        const char *body = strcmp(routes[i].method, "GET") == 0 ? NULL : "{]";
        char paths[2][200];
        for (int slash = 0; slash < 2; slash++)
            snprintf(paths[slash], sizeof(paths[slash]), "%s%s%s", routes[i].path, prefix ? RIG_NAME : "",
                     slash ? "/" : "");
        struct reply a = rig_call(rig, paths[0], body, "Authorization: Bearer " RIG_ADMIN);
        struct reply b = rig_call(rig, paths[1], body, "Authorization: Bearer " RIG_ADMIN);
        if (a.status != b.status)
            fail_msg("%s: %d, %s: %d", paths[0], a.status, paths[1], b.status);
        reply_free(&a);
        reply_free(&b);
    }
    mem_free(routes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_route_is_described_and_nothing_else),
        cmocka_unit_test(test_rows_are_whole),
        cmocka_unit_test(test_references_lead_somewhere),
        cmocka_unit_test_setup_teardown(test_methods_are_as_described, rig_start, rig_stop),
        cmocka_unit_test_setup_teardown(test_all_methods_of_a_path_are_named, rig_start, rig_stop),
        cmocka_unit_test_setup_teardown(test_a_trailing_slash_is_nothing, rig_start, rig_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
