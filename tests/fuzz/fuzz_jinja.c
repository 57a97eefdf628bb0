/* fuzz_jinja: any bytes as a chat template, rendered with a conversation, strictly and leniently. */
#include <string.h>

#include "base/memory.h"
#include "tests/fuzz/fuzz.h"
#include "text/jinja/jinja.h"

enum { STEPS_MAX = 20000 };

static bool is_role(const char *key, const char *text)
{
    (void)text;
    return strcmp(key, "role") == 0;
}

static void render(const struct jinja *t, const json_t *messages, const json_t *tools, bool lenient)
{
    const struct jinja_variable v[] = {{"messages", messages, false}, {"tools", tools, false}, {"x", messages, true}};
    const struct jinja_context c = {v, COUNTOF(v), is_role, 1753535109, STEPS_MAX, lenient};
    struct jinja_output out;
    struct error e = {0};
    int status = jinja_render(t, &c, &out, &e);
    FUZZ_CHECK((status == 0) == (e.status == 0)); /* a refusal has its status */
    FUZZ_CHECK((status == 0) == (out.text != NULL));
    size_t at = 0;
    for (size_t i = 0; i < out.n_trusted; i++) {
        FUZZ_CHECK(out.trusted[i].start >= at && out.trusted[i].start < out.trusted[i].end);
        at = out.trusted[i].end;
    }
    FUZZ_CHECK(at <= out.len);
    jinja_output_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct jinja *t;
    struct error e = {0};
    char *source = mem_strndup((const char *)data, size);
    int status = jinja_parse(&t, source, size, &e);
    mem_free(source);
    FUZZ_CHECK((status == 0) == (t != NULL));
    if (status != 0)
        return 0;
    json_t *messages = json_pack("[{s:s, s:s}, {s:s, s:s, s:[{s:s, s:{s:s, s:{s:f, s:n, s:b}}}]}, {s:s, s:[i, s]}]",
                                 "role", "user", "content", "Hi \xF0\x9F\xA6\x99 <b>", "role", "assistant", "content",
                                 "", "tool_calls", "id", "call_1", "function", "name", "f", "arguments", "a", 1.5, "b",
                                 "c", 1, "role", "tool", "content", 7, "x");
    json_t *tools = json_pack("[{s:s, s:{s:s}}]", "type", "function", "function", "name", "f");
    render(t, messages, tools, false);
    render(t, messages, tools, true);
    json_decref(messages);
    json_decref(tools);
    jinja_free(&t);
    return 0;
}

void fuzz_seeds(fuzz_give_fn give, void *arg)
{
    static const char *const texts[] = {
        "{%- for m in messages -%}{{ '<|' + m['role'] + '|>' ~ m.content|trim }}\n{% endfor %}"
        "{{ tools|tojson(indent=2) }}",
        "{% set ns = namespace(a=1, l=[]) %}{% for m in messages[::-1] if m.role != 'x' %}{% set ns.a = ns.a * 3 %}"
        "{% if loop.last %}{% break %}{% else %}{% continue %}{% endif %}{% else %}none{% endfor %}"
        "{{ ns.a // 2 ** 3 % 5 }}",
        "{% macro f(a, b='x', *c) %}{% endmacro %}",
        "{% macro f(a, b='x') %}{{ a }}{{ caller(b) if caller }}{{ varargs }}{{ kwargs }}{% endmacro %}"
        "{% call(v) f(1, c=2) %}<{{ v }}>{% endcall %}{{ f(messages, *[1, 2], **{'z': 3}) }}",
        "{# c #}{% raw %}{{ x }}{% endraw %}{%+ if x is defined and x is not none or not y %}"
        "a{% elif 1 < 2 <= 3 %}b{% endif +%}",
        "{{ messages|map(attribute='content')|map('string')|join(', ')|upper|replace('H', 'ß')|title }}"
        "{{ messages|selectattr('role', 'equalto', 'user')|list|length }}{{ messages|groupby('role') }}",
        "{{ '%5.2f|%-8s|%x|%r'|format(1.5, 'a', 255, 'q') }}{{ '{0:>8} {x!r} {}'.format(1, x=2) }}{{ '%s' % (1,) }}",
        "{% filter indent(2) %}a\nb{% endfilter %}{% with a = 1, b = a %}{{ a }}{% endwith %}"
        "{% set z | upper %}q{% endset %}",
        "{{ 'a b c'.split(' ', 1)[-1].rstrip('c').partition(' ') }}{{ 'x'.center(9, '*') }}"
        "{{ 'é' * 3 }}{{ [1, 2.5e3, 0x1F][1:] }}",
        "{% for x in [1, [2, [3]]] recursive %}{% if x is iterable %}{{ loop(x) }}{% else %}{{ x }}"
        "{% endif %}{% endfor %}",
        "{% set l = [] %}{% set _ = l.append(l) %}{{ l.pop() }}{{ strftime_now('%Y-%m-%d %f') }}"
        "{{ raise_exception('no') }}",
        "{% generation %}{{ messages|tojson|e|safe ~ range(3)|list }}{% endgeneration %}{% block b %}x{% endblock %}",
        "{{ range(-9223372036854775807, 9223372036854775807, 9223372036854775807)|list }}{{ 'x'.zfill(-9) }}"
        "{{ 9223372036854775807|round(-19) }}{{ '%c%5c' % (65, 'a') }}{{ 1e300|filesizeformat }}",
        "{{ '{:<<1}{!r:*^9.3}{!a}'.format('', 'b', messages) }}{{ '&lt;<b>x</b>&amp;'|striptags }}"
        "{{ 'a\r\nb'|indent(1, true, true) }}{{ 'abc'|truncate(2, true, '', 0) }}",
        "{{ messages[1].tool_calls[0].function.arguments.items()|list|dictsort }}"
        "{{ {'b': 1, 'a': (1, none)}|dictsort }}",
    };
    for (size_t i = 0; i < COUNTOF(texts); i++)
        give(arg, texts[i], strlen(texts[i]));
}
