/* fuzz_settings: YAML files of settings, each read for a coordinator and for a node. */
#include <stdio.h>
#include <string.h>

#include "cli/settings.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const enum command_bit commands[] = {CMD_COORDINATOR, CMD_NODE};
    for (size_t i = 0; i < COUNTOF(commands); i++) {
        struct settings *s;
        struct error e = {0};
        bool help;
        char name[] = "fuzz", config[64], *argv[] = {name, config, NULL};
        snprintf(config, sizeof(config), "--config=%s", fuzz_file(data, size));
        int r = settings_read(&s, commands[i], 2, argv, &help, &e);
        FUZZ_CHECK((r == 0) == (e.text[0] == 0)); /* a refusal has its sentence */
        if (r == 0)
            FUZZ_CHECK(i == 1 || settings_count(s, "port") <= 65535);
        settings_free(&s);
    }
    return 0;
}

void fuzz_seeds(fuzz_give_fn give, void *arg)
{
    static const char *const texts[] = {
        "model: m.gguf\nport: 8080\nmemory: 1.5GiB\nkv_type: f16\n",
        "# a node\n{join: \"shoal1.abc\", name: 'shelf', pin: true, threads: 4}\n",
        "---\nnodes: 3\nlease_ms: 6000\n...\n",
        "name: |\n  a\n  b\nhost: >-\n  127.0.0.1\nlog_level: &a info\n",
        "port: [1, 2]\n- host\n",
    };
    for (size_t i = 0; i < COUNTOF(texts); i++)
        give(arg, texts[i], strlen(texts[i]));
}
