/* main: pick the command, read its settings, run it, turn its status into an exit code. */
#include <stdio.h>
#include <string.h>

#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/models.h"

static const struct command commands[] = {
    {"run", CMD_RUN, "MODEL [PROMPT]", 1, 2, "answer a prompt, or chat, in one process",
     "Without PROMPT it chats on a terminal (/? there lists commands) and reads the prompt from standard input\n"
     "elsewhere; with PROMPT a file or a pipe on standard input comes before it. Ctrl-C ends the answer. What the\n"
     "model thinks first is shown on a terminal only.", run_command},
    {"serve", CMD_SERVE, "MODEL", 1, 1, "serve a model from this machine alone, OpenAI API on 127.0.0.1:8080", NULL,
     serve_command},
    {"up", CMD_UP, "MODEL", 1, 1, "a whole local cluster: a coordinator and several encrypted nodes", NULL, up_command},
    {"coordinator", CMD_COORDINATOR, "[MODEL]", 0, 1, "coordinate a cluster; prints the invite line for nodes", NULL,
     coordinator_command},
    {"node", CMD_NODE, "", 0, 0, "join a cluster and hold layers for it",
     "The first time with --join 'INVITE'; later the membership in the state folder is enough.", node_command},
    {"status", CMD_STATUS, "", 0, 0, "members, who holds which layers, memory, speed, links", NULL, status_command},
    {"invite", CMD_INVITE, "", 0, 0, "print a new invite line of the coordinator on this machine", NULL,
     invite_command},
    {"keys", CMD_KEYS, "list | revoke NAME | create NAME | api | revoke-api NAME | usage", 1, 2,
     "list the members' keys, or revoke one; make, list and revoke API keys",
     "list and revoke: of nodes. NAME is a node's name or the fingerprint of its key. A revoked node is out at once\n"
     "and cannot come back.\n"
     "create, api, revoke-api, usage: keys of the API's users. A new key is shown once. Once one was made, nobody\n"
     "uses the API without one. usage: requests and tokens of each day.",
     keys_command},
    {"pull", CMD_PULL, "hf:ORG/REPO[:QUANT]", 1, 1, "fetch a model from the Hugging Face hub into the store",
     "QUANT is one that the file names have (Q4_K_M where you name none); a repository without GGUF files comes as a\n"
     "folder of safetensors. What was interrupted goes on where it was. HF_TOKEN opens gated and private models,\n"
     "SHOAL_HUB is the address of another hub, SHOAL_MODELS_DIR the store (~/.local/share/shoal/models).",
     pull_command},
    {"ls", CMD_LS, "", 0, 0, "the models that were pulled", NULL, ls_command},
    {"rm", CMD_RM, "NAME...", 1, 64, "remove models that were pulled", NULL, rm_command},
    {"show", CMD_SHOW, "MODEL", 1, 1, "architecture, layers, experts, parameters, quantisation, memory", NULL,
     show_command},
    {"tokenize", CMD_TOKENIZE, "MODEL", 1, 1, "standard input to token ids, or back", NULL, tokenize_command},
    {"synth", CMD_SYNTH, "NAME OUT.gguf", 2, 2, "write a random-weight model of a family or shape",
     "NAME is a family, or the shape of a published model, of which the options change what they name (--layers N\n"
     "cuts it): mixtral-8x7b, qwen3-30b-a3b, qwen3-235b-a22b, deepseek-v3, deepseek-v3.2, kimi-k2,\n"
     "kimi-linear-48b-a3b, gpt-oss-120b, llama4-maverick, glm-4.5, glm-5. Layers are cut from the end: --lead-dense 1\n"
     "keeps more of those with experts.",
     synth_command},
    {"quantize", CMD_QUANTIZE, "IN OUT.gguf TYPE", 3, 3, "write a model in another type",
     "IN is a GGUF file, any split of one, or a Hugging Face folder, whose tokenizer goes into OUT. TYPE is F16,\n"
     "BF16, Q8_0, Q4_0, Q4_K_M, Q5_K_M, Q6_K or MXFP4. Norms, routers and what is small already stay as they are. OUT\n"
     "appears when it is complete; the memory taken does not depend on the model's size. What was interrupted lies in\n"
     "OUT.shoal-part and OUT.shoal-journal: the same command goes on from there.",
     quantize_command},
    {"bench", CMD_BENCH, "[MODEL]", 0, 1, "prefill and decode tokens a second, of one process or of a cluster",
     "Figures are tokens a second: median, least and most of --repeat rounds. Beside decode of one sequence stand\n"
     "the bytes of weights that it reads, beside the rest the operations (a multiply-add is two, attention left out),\n"
     "each with its part of the ceiling that was measured before: sums over 256 MB, and the instruction set's\n"
     "multiply-adds on registers. COMMAND of --compare goes to the shell after each of our rounds; llama-bench's\n"
     "table or JSON, llama-batched-bench's JSON lines and shoal bench --json are understood:\n"
     "  shoal bench m.gguf --compare 'llama-bench -m {model} -t {threads} -p {prompt} -n {generate} -r 1 -o json'",
     bench_command},
    {"logits", CMD_LOGITS, "[MODEL]", 0, 1, "raw float32 logits of given tokens, by one process or by a cluster", NULL,
     logits_command},
};

static void help_all(void)
{
    printf("shoal %s: one large model on many ordinary machines\n\nusage: shoal COMMAND ...\n\n", SHOAL_VERSION);
    for (size_t i = 0; i < COUNTOF(commands); i++)
        printf("  %-12s %s\n", commands[i].name, commands[i].summary);
    printf("\nshoal COMMAND --help says more.\n");
}

static void help_one(const struct command *c)
{
    printf("usage: shoal %s %s%s[options]\n\n%s.\n", c->name, c->arguments, c->arguments[0] ? " " : "", c->summary);
    if (c->details)
        printf("%s\n", c->details);
    putchar('\n');
    settings_help(c->bit);
}

static const struct command *find(const char *name)
{
    for (size_t i = 0; i < COUNTOF(commands); i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

static int run(const struct command *c, int argc, char **argv, struct error *e)
{
    struct settings *s;
    bool help;
    int r = settings_read(&s, c->bit, argc, argv, &help, e);
    if (r == 0 && help) {
        help_one(c);
    } else if (r == 0) {
        size_t n = settings_argument_count(s);
        if (n < c->arguments_min || n > c->arguments_max)
            r = error_set(e, ERR_INVALID, "usage: shoal %s %s; see shoal %s --help", c->name, c->arguments, c->name);
        else
            r = models_resolve(s, c->bit, e);
        if (r == 0)
            r = c->run(s, e);
    }
    settings_free(&s);
    return r;
}

int main(int argc, char **argv)
{
    struct error e = {0};
    const char *name = argc > 1 ? argv[1] : "--help";
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        help_all();
        return argc > 1 ? 0 : status_exit(ERR_INVALID);
    }
    if (strcmp(name, "--version") == 0) {
        printf("shoal %s\n", SHOAL_VERSION);
        return 0;
    }
    const struct command *c = find(name);
    if (!c) {
        fprintf(stderr, "shoal: \"%s\" is not a command; see shoal --help\n", name);
        return status_exit(ERR_INVALID);
    }
    interrupt_catch();
    int r = run(c, argc - 1, argv + 1, &e);
    if (fflush(stdout) != 0 && r == 0)
        r = error_set(&e, ERR_IO, "standard output cannot be written");
    if (r != 0 && e.text[0])
        fprintf(stderr, "shoal: %s\n", e.text);
    return status_exit(r);
}
