/* test_jinja: templates render as Jinja2 renders them, what strangers say stays marked through all that is done to
 * it, and no template does harm. */
#include <dirent.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "base/path.h"
#include "tests/text/goldens.h"
#include "text/jinja/jinja.h"

#define ANSWERS "tests/data/jinja_answers.json"
enum { VARIABLES_MAX = 64, STEPS_MAX = 3000000, NOW = 1753535109 }; /* 2025-07-26T13:05:09Z */

static int set_zone(void **state)
{
    (void)state;
    setenv("TZ", "UTC", 1);
    tzset();
    return 0;
}

static bool is_role(const char *key, const char *text)
{
    return strcmp(key, "role") == 0 && strcmp(text, "user") == 0;
}

static bool lenient;

static int render_at(const char *source, const json_t *variables, int64_t now, struct jinja_output *out,
                     struct error *e)
{
    struct jinja_variable v[VARIABLES_MAX];
    struct jinja_context c = {.variables = v, .harmless = is_role, .now = now, .steps_max = STEPS_MAX,
                              .lenient = lenient};
    struct jinja *t;
    const char *name;
    json_t *value;
    *out = (struct jinja_output){0};
    json_object_foreach((json_t *)(uintptr_t)variables, name, value) {
        assert_true(c.n_variables < VARIABLES_MAX);
        v[c.n_variables++] = (struct jinja_variable){name, value, strcmp(name, "bos_token") == 0};
    }
    int status = jinja_parse(&t, source, strlen(source), e);
    if (status == 0)
        status = jinja_render(t, &c, out, e);
    jinja_free(&t);
    return status;
}

static int render(const char *source, const json_t *variables, struct jinja_output *out, struct error *e)
{
    return render_at(source, variables, NOW, out, e);
}

/* ---- what others say ---- */

static void test_answers_are_those_of_jinja2(void **state)
{
    (void)state;
    json_t *all = json_load_file(ANSWERS, 0, NULL), *row;
    size_t i;
    assert_true(json_array_size(json_object_get(all, "answers")) > 100);
    json_array_foreach(json_object_get(all, "answers"), i, row) {
        const char *source = json_string_value(json_array_get(row, 0));
        const char *want = json_string_value(json_array_get(row, 1)); /* NULL: it fails */
        struct jinja_output out;
        struct error e = {0};
        int status = render(source, json_object_get(all, "context"), &out, &e);
        if ((status == 0) != (want != NULL) || (want && strcmp(out.text, want) != 0))
            fail_msg("%s\ngives %s\nnot   %s", source, status == 0 ? out.text : e.text, want ? want : "an error");
        if (status != 0)
            assert_true(e.text[0] != 0 && out.text == NULL);
        jinja_output_free(&out);
    }
    json_decref(all);
}

static int64_t seconds_of(const char *text)
{
    struct tm tm = {0};
    int n = text ? sscanf(text, "%d-%d-%dT%d:%d:%d", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour, &tm.tm_min,
                          &tm.tm_sec) : 0;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    return n == 6 ? (int64_t)timegm(&tm) : 0;
}

static size_t check_golden(const char *json_path)
{
    char *source, *path = mem_strndup(json_path, strlen(json_path) - strlen(".json"));
    json_t *all = json_load_file(json_path, 0, NULL), *one;
    size_t len, i, n = 0;
    assert_non_null(all);
    assert_int_equal(path_read(path, 1 << 20, &source, &len, NULL), 0);
    json_array_foreach(json_object_get(all, "cases"), i, one) {
        const char *want = json_string_value(json_object_get(one, "expected"));
        struct jinja_output out;
        struct error e = {0};
        int64_t now = seconds_of(json_string_value(json_object_get(all, "now")));
        int status = render_at(source, json_object_get(one, "context"), now, &out, &e);
        if ((status == 0) != (want != NULL) || (want && strcmp(out.text, want) != 0))
            fail_msg("%s: case %zu gives\n%s\nnot\n%s", path, i, status == 0 ? out.text : e.text,
                     want ? want : "an error");
        jinja_output_free(&out);
        n++;
    }
    mem_free(source);
    mem_free(path);
    json_decref(all);
    return n;
}

static void test_real_templates_render_as_recorded(void **state)
{
    (void)state;
    char *dir = goldens_dir("chat");
    DIR *d = opendir(dir);
    size_t n = 0;
    if (!d) {
        print_message("no %s: skipped\n", dir);
        mem_free(dir);
        skip();
    }
    for (struct dirent *entry = readdir(d); entry; entry = readdir(d)) {
        size_t len = strlen(entry->d_name);
        char *path = path_join(dir, entry->d_name);
        if (len > 11 && strcmp(entry->d_name + len - 11, ".jinja.json") == 0)
            n += check_golden(path);
        mem_free(path);
    }
    print_message("%zu renderings\n", n);
    closedir(d);
    mem_free(dir);
}

/* What Python says where lists may be changed. */
static void test_lists_change_where_that_is_allowed(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"{% set l = [1, 2, 3] %}{% set s = l[1:] %}{% set c = l.copy() %}{% set k = l %}{{ l.append(4) }}{{ l }}"
         "{{ s }}{{ c }}{{ k }}", "None[1, 2, 3, 4][2, 3][1, 2, 3][1, 2, 3, 4]"},
        {"{% set l = [1, 2, 3] %}{% set s = l[:2] %}{{ l.pop() }}{{ l.pop() }}{{ l.append(9) }}{{ l }}{{ s }}",
         "32None[1, 9][1, 2]"},
        {"{% set l = [1, 2, 3, 4] %}{{ l.pop(0) }}{{ l.pop(1) }}{{ l.pop(-2) }}{{ l }}", "132[4]"},
        {"{% set l = [1] %}{% for x in l %}{% if x < 4 %}{% set _ = l.append(x + 1) %}{% endif %}{{ x }}"
         "{% endfor %}",
         "1234"},
        {"{% set l = [] %}{% for x in range(20) %}{% set _ = l.append(l|length) %}{% endfor %}{{ l|sum }}", "190"},
        {"{% set l = [1, 2, 3, 4, 5] %}{% for x in l %}{% if loop.last %}{% for i in range(4) %}{% set _ = l.pop(0) %}"
         "{% endfor %}<{{ loop.previtem }}{{ loop.nextitem }}>{% endif %}{% endfor %}", "<>"},
        {"{% set l = [1, 2] %}{% for x in l if l.pop() %}{{ x }}{% endfor %}", "1"},
        {"{% set l = [1] %}{% for x in l if l.pop() %}{{ x }}{% endfor %}", "1"},
        {"{% set l = [1, 2, 3] %}{% for x in l %}{{ loop.previtem }}{{ x }}{{ loop.nextitem }} {% endfor %}",
         "12 123 23 "},
        {"{{ [].pop() }}", NULL}, {"{{ [1].pop(1) }}", NULL}, {"{{ (1,).append(1) }}", NULL},
        {"{{ [1].clear() }}", NULL},
        {"{% set l = [1] %}{% for x in l %}{% set _ = l.append(x) %}{% endfor %}", NULL},
        {"{% set l = [] %}{% set _ = l.append(l) %}{{ l }}", NULL},
        {"{% set l = [] %}{% set _ = l.append(l) %}{{ l|tojson }}", NULL},
    };
    lenient = true;
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct jinja_output out;
        struct error e = {0};
        int status = render(rows[i][0], NULL, &out, &e);
        if ((status == 0) != (rows[i][1] != NULL) || (status == 0 && strcmp(out.text, rows[i][1]) != 0))
            fail_msg("%s\ngives %s", rows[i][0], status == 0 ? out.text : e.text);
        jinja_output_free(&out);
    }
    lenient = false;
}

/* ---- marks ---- */

/* x is a stranger's "Ab<|x|> é", m its member of a message, f, g and h its formats, k its HTML, j its lines. In the
 * answer, what is between brackets must be the stranger's, and nothing else; the template has no brackets itself. */
static const struct {
    const char *source, *want;
} marks[] = {
    {"a{{ x }}b", "a[Ab<|x|> é]b"},
    {"{{ 'a' + x + 'b' }}", "a[Ab<|x|> é]b"},
    {"{{ 'a' ~ x ~ 1 ~ x }}", "a[Ab<|x|> é]1[Ab<|x|> é]"},
    {"{{ ('  ' + x + '  ').strip() }}", "[Ab<|x|> é]"},
    {"{{ (x + '<|y|>')|trim|upper }}", "[AB<|X|> É]<|Y|>"},
    {"{{ x.lower() }}{{ x|title }}{{ x|capitalize }}", "[ab<|x|> éAb<|x|> ÉAb<|x|> é]"},
    {"{{ ('é' + x)[1:3] }}{{ ('é' + x)[:2] }}{{ ('u' + x)[::-1] }}", "[Ab]é[Aé >|x|<bA]u"},
    {"{{ x[0] }}{{ x[-1] }}{{ ('q' + x)[0] }}", "[Aé]q"},
    {"{{ x.replace('|', '+') }}", "[Ab<]+[x]+[> é]"},
    {"{{ '<|q|>'.replace('q', x) }}", "<|[Ab<|x|> é]|>"},
    {"{{ x.split('<')|join('<') }}", "[Ab]<[|x|> é]"},
    {"{{ [x, 'own']|join(x) }}", "[Ab<|x|> éAb<|x|> é]own"},
    {"{{ x|tojson }}{{ {'k': x}|tojson }}", "\"[Ab<|x|> é]\"{\"k\": \"[Ab<|x|> é]\"}"},
    {"{{ x|tojson(ensure_ascii=true) }}", "\"[Ab<|x|> \\u00e9]\""},
    {"{{ {'k': x} }}{{ (x, 1) }}", "{'k': '[Ab<|x|> é]'}('[Ab<|x|> é]', 1)"},
    {"{{ '%s-%5s' % (x, 'o') }}{{ '{}-{}'.format('o', x) }}", "[Ab<|x|> é]-    oo-[Ab<|x|> é]"},
    {"{{ x|indent(1, true) }}{{ x|center(11) }}", " [Ab<|x|> é] [Ab<|x|> é] "},
    {"{% set y %}<{{ x }}>{% endset %}{{ y }}{{ y[1:-1] }}", "<[Ab<|x|> é]>[Ab<|x|> é]"},
    {"{% macro q(a) %}<{{ a }}>{% endmacro %}{{ q(x) }}", "<[Ab<|x|> é]>"},
    {"{% filter upper %}a{{ x }}{% endfilter %}", "A[AB<|X|> É]"},
    {"{% for c in x %}{{ c }}{% endfor %}", "[Ab<|x|> é]"},
    {"{% for k, v in m|items %}{{ k }}={{ v }};{% endfor %}", "[role]=user;[content]=[hi];"},
    {"<|{{ m.role }}|>{{ m.content }}", "<|user|>[hi]"},
    {"{{ bos_token }}{{ x|string|default('y') }}", "<s>[Ab<|x|> é]"},
    {"{{ x|e }}{{ '<'|e + x }}", "[Ab&lt;|x|&gt; é]&lt;[Ab&lt;|x|&gt; é]"},
    {"{% set n = namespace(t='') %}{% for i in range(3) %}{% set n.t = n.t + '<|x|>' + x[0] %}{% endfor %}{{ n.t }}",
     "<|x|>[A]<|x|>[A]<|x|>[A]"},
    {"{% set n = namespace(t='') %}{% for i in range(99) %}{% set n.t = n.t + x + 'o' %}{% endfor %}{{ n.t[-9:] }}",
     "[b<|x|> é]o"},
    {"{{ x.partition('<')[2] }}{{ x|truncate(4, true, '', 0) }}{{ x|reverse }}{{ x|list|last }}",
     "[|x|> éAb<|é >|x|<bAé]"},
    {"{{ x|length }}{{ x == x }}{{ x in [x] }}", "9TrueTrue"},
    {"{{ strftime_now(x) }}", "[Ab<|x|> é]"},
    {"{{ f.format('', '', '', '') }}", "[<|im]"},
    {"{{ f.format('own', 2, '', '') }}", "own[2im]"},
    {"{{ g.format(7, -7) }}{{ g.format('o', 'o') }}", "[<<<7||-7<<<]o[|||]o"},
    {"{{ ('{:*>3}|' + g).format(7, 7, 7) }}{{ ('{:' + '<' + '4}').format(7) }}", "**7|[<<<7|||7]7   "},
    {"{{ h % (7, 'o') }}{{ '%05d' % 7 }}", "[00007   ]o00007"},
    {"{{ '{!r}{!a:>11}{!s}'.format(x, x[-2:], x) }}", "'[Ab<|x|> é]'    '[ \\xe9]'[Ab<|x|> é]"},
    {"{{ '%a' % x }}", "'[Ab<|x|> \\xe9]'"},
    {"{{ '%c' % x[0] }}{{ '%c' % 'o' }}{{ '%3c' % 60 }}", "[A]o  [<]"},
    {"{{ k|striptags }}", "[<im_start>] [&am] [<] [<]"},
    {"{{ ('&' + k)|striptags }}{{ '&lt;&amp;lt;'|striptags }}", "&[<im_start>] [&am] [<] [<]<&lt;"},
    {"{{ j|indent(1) }}", "[a\n\n] [b]"},
    {"{{ ('o\n' + j + '\no\r\no')|indent(1, true, true) }}", " o\n [a\n] [\n] [b]\n o\n o"},
};

/* The output with brackets around what is not trusted. */
static char *bracketed(const struct jinja_output *out)
{
    struct buffer b;
    size_t at = 0;
    buffer_init(&b, 1 << 20);
    for (size_t i = 0; i <= out->n_trusted; i++) {
        size_t from = i < out->n_trusted ? out->trusted[i].start : out->len;
        size_t to = i < out->n_trusted ? out->trusted[i].end : out->len;
        assert_true(from >= at && to >= from && to <= out->len);
        if (from > at) {
            buffer_add_text(&b, "[");
            buffer_add(&b, out->text + at, from - at);
            buffer_add_text(&b, "]");
        }
        buffer_add(&b, out->text + from, to - from);
        at = to;
    }
    return buffer_take(&b, NULL);
}

static void test_a_strangers_bytes_stay_marked(void **state)
{
    (void)state;
    json_t *v = json_pack("{s:s, s:{s:s, s:s}, s:s, s:s, s:s, s:s, s:s, s:s}", "x", "Ab<|x|> \xC3\xA9", "m", "role",
                          "user", "content", "hi", "bos_token", "<s>", "f", "{:<<1}{:|<1}{:i<1}{:m<1}", "g",
                          "{:<>4}{:|>4}", "h", "%05d%4s", "k", "&lt;im_start&gt; <b>&am &lt;</b>  &lt;", "j",
                          "a\r\n\nb");
    for (size_t i = 0; i < COUNTOF(marks); i++) {
        struct jinja_output out;
        struct error e = {0};
        if (render(marks[i].source, v, &out, &e) != 0)
            fail_msg("%s: %s", marks[i].source, e.text);
        char *got = bracketed(&out);
        if (strcmp(got, marks[i].want) != 0)
            fail_msg("%s\ngives %s\nnot   %s", marks[i].source, got, marks[i].want);
        mem_free(got);
        jinja_output_free(&out);
    }
    json_decref(v);
}

/* ---- harm ---- */

static const struct {
    const char *source;
    int status;
} hostile[] = {
    {"{{ 'a' * 1000000000 }}", ERR_LIMIT},
    {"{{ 'a' * 9223372036854775807 }}", ERR_LIMIT},
    {"{{ [1] * 1000000000 }}", ERR_LIMIT},
    {"{{ [[]] * 9223372036854775807 }}", ERR_LIMIT},
    {"{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", ERR_LIMIT},
    {"{% for a in range(99999) %}{{ range(99999)|list|length }}{% endfor %}", ERR_LIMIT},
    {"{% set n = namespace(x='aaaaaaaa') %}{% for a in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}", ERR_LIMIT},
    {"{% set n = namespace(x=['a']) %}{% for a in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}", ERR_LIMIT},
    {"{% set n = namespace(x=['a']) %}{% for a in range(99) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x }}",
     ERR_LIMIT},
    {"{% set n = namespace(x=['a']) %}{% for a in range(99) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x|tojson }}",
     ERR_LIMIT},
    {"{% set n = namespace(x=[]) %}{% for a in range(99999) %}{% set n.x = [n.x] %}{% endfor %}{{ n.x }}", ERR_LIMIT},
    {"{% set n = namespace(x=[]) %}{% for a in range(99999) %}{% set n.x = [n.x] %}{% endfor %}{{ n.x|tojson }}",
     ERR_LIMIT},
    {"{% set n = namespace(x=[]) %}{% for a in range(99999) %}{% set n.x = [n.x] %}{% endfor %}{{ n.x == [n.x] }}",
     ERR_LIMIT},
    {"{% set n = namespace(x=1, y=[]) %}{% set n.x = n %}{{ n }}", ERR_LIMIT},
    {"{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}", ERR_LIMIT},
    {"{% macro f(x) %}{{ f(x) }}{{ f(x) }}{% endmacro %}{{ f(1) }}", ERR_LIMIT},
    {"{% macro f() %}{{ caller() }}{% call f() %}{% endcall %}{% endmacro %}{% call f() %}{% endcall %}", ERR_LIMIT},
    {"{% macro f(x=f()) %}{% endmacro %}{{ f() }}", ERR_LIMIT},
    {"{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}", ERR_LIMIT},
    {"{{ range(999999999) }}", ERR_LIMIT},
    {"{{ range(-9223372036854775807, 9223372036854775807) }}", ERR_LIMIT},
    {"{{ 9223372036854775807 + 1 }}", ERR_LIMIT},
    {"{{ -9223372036854775807 - 2 }}", ERR_LIMIT},
    {"{{ 10 ** 1000 }}", ERR_LIMIT},
    {"{{ (-9223372036854775807 - 1) // -1 }}", ERR_LIMIT},
    {"{{ -(-9223372036854775807 - 1) }}", ERR_LIMIT},
    {"{{ (-9223372036854775807 - 1)|abs }}", ERR_LIMIT},
    {"{{ 99999999999999999999 }}", ERR_INVALID},
    {"{{ '%999999999d' % 1 }}", ERR_INVALID},
    {"{{ '%.99999999f' % 1 }}", ERR_INVALID},
    {"{{ '{:999999999}'.format(1) }}", ERR_INVALID},
    {"{{ '{!€<5}'.format('q') }}", ERR_INVALID},
    {"{{ '{!x}'.format('q') }}", ERR_INVALID},
    {"{{ '{!}'.format('q') }}", ERR_INVALID},
    {"{{ '{!rr}'.format('q') }}", ERR_INVALID},
    {"{{ '%x' % 1.5 }}", ERR_INVALID},
    {"{{ '{:b}'.format(1.5) }}", ERR_INVALID},
    {"{{ '{:.999999}'.format(1.5) }}", ERR_INVALID},
    {"{{ '{:5d}'.format('a') }}", ERR_INVALID},
    {"{{ '%c' % 1.5 }}", ERR_INVALID},
    {"{{ '%c' % 'ab' }}", ERR_INVALID},
    {"{{ '%c' % '' }}", ERR_INVALID},
    {"{{ '%c' % -1 }}", ERR_INVALID},
    {"{{ '%c' % 1114112 }}", ERR_INVALID},
    {"{{ '%c' % 55296 }}", ERR_INVALID},
    {"{{ 'a'|truncate(-9223372036854775807 - 1, true, '...', 0) }}", ERR_INVALID},
    {"{{ 9223372036854775807|round(-19) }}", ERR_LIMIT},
    {"{{ 'a'.center(999999999999) }}", ERR_LIMIT},
    {"{{ 'a'.ljust(9223372036854775807) }}", ERR_LIMIT},
    {"{{ 'a\t'.expandtabs(999999999999) }}", ERR_LIMIT},
    {"{{ 'a'|indent(99999999999) }}", ERR_LIMIT},
    {"{{ [1]|tojson(indent=99999999999) }}", ERR_LIMIT},
    {"{{ [1]|batch(999999999999, 1)|list }}", ERR_LIMIT},
    {"{{ [1]|slice(999999999999, 1)|list }}", ERR_LIMIT},
    {"{{ strftime_now('%c' * 100000) }}", ERR_LIMIT},
    {"{{ ('ab' * 1000000).replace('', 'x' * 1000) }}", ERR_LIMIT},
    {"{% set b = 'a' * 1000000 %}{% for i in range(99999) %}{{ b.count('b') }}{% endfor %}", ERR_LIMIT},
    {"{% set b = 'a' * 30000000 %}{{ b.rfind('a' * 15000000 + 'b') }}", ERR_LIMIT},
    {"{% set b = 'a' * 1000000 %}{{ b.strip('b' * 1000000 + 'a') }}", ERR_LIMIT},
    {"{{ range(99999)|unique|list }}", ERR_LIMIT},
    {"{% set b = 'a' * 1000000 %}{% for i in range(9999) %}{{ b.rsplit(none, 1)|length }}{% endfor %}", ERR_LIMIT},
    {"{% set b = 'a' * 1000000 %}{% for i in range(9999) %}{{ b.endswith(b) }}{% endfor %}", ERR_LIMIT},
    {"{% set b = 'a' * 1000000 %}{% for i in range(9999) %}{{ b.removeprefix(b) }}{% endfor %}", ERR_LIMIT},
    {"{% set b = ' ' * 1000000 %}{% for i in range(9999) %}{{ b|int }}{% endfor %}", ERR_LIMIT},
    {"{% set b = ' ' * 1000000 %}{% for i in range(9999) %}{{ b|float }}{% endfor %}", ERR_LIMIT},
    {"{% set b = range(99999) %}{% for i in range(9999) %}{{ b|sum }}{% endfor %}", ERR_LIMIT},
    {"{% set b = range(99999) %}{% for i in range(9999) %}{{ b|max }}{% endfor %}", ERR_LIMIT},
    {"{{ range(50000)|list + [1] in [range(50000)|list + [2]] * 50000 }}", ERR_LIMIT},
    {"{{ [1,2][0:1:0] }}", ERR_INVALID},
    {"{{ ''.__class__.__mro__ }}", ERR_INVALID},
    {"{{ [].append(1) }}", ERR_INVALID},
    {"{{ cycler.__init__.__globals__.os }}", ERR_INVALID},
    {"{% include '/etc/passwd' %}", ERR_INVALID},
    {"{{ '\\ud800' }}", ERR_INVALID},
    {"{{ '\\U99999999' }}", ERR_INVALID},
    {"\xFF", ERR_INVALID},
    {"{{ '\xC3' }}", ERR_INVALID},
};

static void test_no_template_does_harm(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNTOF(hostile); i++) {
        struct jinja_output out;
        struct error e = {0};
        int status = render(hostile[i].source, NULL, &out, &e);
        if (status != hostile[i].status)
            fail_msg("%s\ngives %s: %s", hostile[i].source, status_name(status), e.text);
        assert_null(out.text);
    }
}

/* n times `open`, `middle`, n times `close`. */
static char *nested(size_t n, const char *open, const char *middle, const char *close)
{
    struct buffer b;
    buffer_init(&b, 2 << 20);
    for (size_t i = 0; i < n; i++)
        buffer_add_text(&b, open);
    buffer_add_text(&b, middle);
    for (size_t i = 0; i < n; i++)
        buffer_add_text(&b, close);
    return buffer_take(&b, NULL);
}

static void check_nest(size_t n, const char *open, const char *middle, const char *close, bool good)
{
    struct jinja_output out;
    struct error e = {0};
    char *body = nested(n, open, middle, close);
    char *source = open[0] == '{' && open[1] == '%' ? mem_strdup(body) : mem_printf("{{ %s }}", body);
    int status = render(source, NULL, &out, &e);
    if ((status == 0) != good || (!good && status != ERR_INVALID && status != ERR_LIMIT))
        fail_msg("%zu times %s: %s", n, open, status == 0 ? "rendered" : e.text);
    jinja_output_free(&out);
    mem_free(source);
    mem_free(body);
}

/* On a stack as small as the HTTP server's. */
static void *nest_all(void *arg)
{
    static const struct {
        const char *open, *middle, *close;
    } shapes[] = {
        {"(", "1", ")"},         {"[", "1", "]"},          {"{1: ", "1", "}"},   {"-", "1", ""},
        {"not ", "1", ""},       {"", "1", " + 1"},        {"", "1", " if 1 else 2"}, {"", "1", "|string"},
        {"", "1", " is defined|string"}, {"", "x", ".y"},  {"", "x", "[0]"},     {"", "x", "()"},
        {"dict(a=", "1", ")"},   {"1 if ", "1", " else 1"}, {"1 and ", "1", ""}, {"1 or ", "1", ""},
        {"{% if 1 %}", "", "{% endif %}"}, {"{% for x in [1] %}", "", "{% endfor %}"},
        {"{% filter upper %}", "", "{% endfilter %}"}, {"{% if 1 %}{% elif 1 %}", "", "{% endif %}"},
        {"{% set x %}", "", "{% endset %}"}, {"{% macro f() %}", "", "{% endmacro %}"},
        {"1 ~ ", "1", ""}, {"1 < ", "1", ""}, {"x[", "1", ":]"}, {"1 ** ", "1", ""}, {"1 * ", "1", ""},
    };
    for (size_t i = 0; i < COUNTOF(shapes); i++)
        check_nest(20000, shapes[i].open, shapes[i].middle, shapes[i].close,
                   strcmp(shapes[i].open, "1 ~ ") == 0 || strcmp(shapes[i].open, "1 < ") == 0);
    check_nest(20, "(", "1", ")", true);
    check_nest(20, "{% if 1 %}", "", "{% endif %}", true);
    test_no_template_does_harm(NULL);
    return arg;
}

static void test_depth_is_bounded_on_a_small_stack(void **state)
{
    (void)state;
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    assert_int_equal(pthread_attr_setstacksize(&attributes, 2 << 20), 0);
    assert_int_equal(pthread_create(&thread, &attributes, nest_all, NULL), 0);
    pthread_join(thread, NULL);
    pthread_attr_destroy(&attributes);
}

static void test_deep_variables_are_refused(void **state)
{
    (void)state;
    json_t *deep = json_integer(1);
    struct jinja_output out;
    struct error e;
    for (int i = 0; i < 1000; i++)
        deep = json_pack("[o]", deep);
    json_t *v = json_pack("{s:o}", "x", deep);
    assert_int_equal(render("{{ x }}", v, &out, &e), ERR_LIMIT);
    assert_int_equal(render("unmentioned", v, &out, &e), 0);
    jinja_output_free(&out);
    json_decref(v);
}

static void test_errors_say_the_line_and_the_templates_own_words_stay(void **state)
{
    (void)state;
    struct jinja_output out;
    struct error e;
    assert_int_equal(render("a\n\n{{ x.y }}", NULL, &out, &e), ERR_INVALID);
    assert_string_equal(e.text, "the chat template, line 3: 'x' is undefined");
    assert_int_equal(render("a\n{% if %}", NULL, &out, &e), ERR_INVALID);
    assert_non_null(strstr(e.text, "line 2"));
    assert_int_equal(render("\n{{ raise_exception('Roles must ' ~ 'alternate!') }}", NULL, &out, &e), ERR_INVALID);
    assert_string_equal(e.text, "Roles must alternate!");
    char *large = nested((JINJA_SOURCE_MAX / 2) + 1, "a", "", "b");
    assert_int_equal(render(large, NULL, &out, &e), ERR_LIMIT);
    mem_free(large);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers_are_those_of_jinja2),
        cmocka_unit_test(test_real_templates_render_as_recorded),
        cmocka_unit_test(test_lists_change_where_that_is_allowed),
        cmocka_unit_test(test_a_strangers_bytes_stay_marked),
        cmocka_unit_test(test_no_template_does_harm),
        cmocka_unit_test(test_depth_is_bounded_on_a_small_stack),
        cmocka_unit_test(test_deep_variables_are_refused),
        cmocka_unit_test(test_errors_say_the_line_and_the_templates_own_words_stay),
    };
    return cmocka_run_group_tests(tests, set_zone, NULL);
}
