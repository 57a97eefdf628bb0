/* settings_rows: every setting of every command. */
#include "cli/settings_rows.h"

#define LOCAL (CMD_RUN | CMD_BENCH | CMD_LOGITS)
#define HEADS (CMD_SERVE | CMD_COORDINATOR | CMD_UP)
#define COMPUTES (CMD_RUN | CMD_SERVE | CMD_NODE)
#define CLIENTS (CMD_STATUS | CMD_INVITE | CMD_KEYS)

const struct setting setting_rows[] = {
    /* for every command */
    {"config", 0, SETTING_TEXT, CMD_ALL, NULL, 0, 0, "FILE", "YAML file with any of these settings"},
    {"log_level", 0, SETTING_TEXT, CMD_COORDINATOR | CMD_NODE, "info", 0, 0, "LEVEL", "error, warn, info or debug"},
    {"log_level", 0, SETTING_TEXT, CMD_SERVE | CMD_UP, "warn", 0, 0, "LEVEL", "error, warn, info or debug"},

    /* the cluster */
    {"model", 'm', SETTING_TEXT, CMD_COORDINATOR, NULL, 0, 0, "FILE", "the model to serve, a GGUF file"},
    {"model", 'm', SETTING_TEXT, CMD_NODE, NULL, 0, 0, "FILE", "a local copy of the model, used if its content fits"},
    {"host", 0, SETTING_TEXT, HEADS, "127.0.0.1", 0, 0, "ADDRESS", "where the HTTP API listens"},
    {"port", 0, SETTING_COUNT, HEADS, "8080", 0, 65535, "PORT", "port of the HTTP API; 0 takes a free one"},
    {"api_key", 0, SETTING_TEXT, HEADS, NULL, 0, 0, "KEY", "clients must send it as a bearer token"},
    {"tls_cert", 0, SETTING_TEXT, HEADS, NULL, 0, 0, "FILE",
     "serve HTTPS with this certificate (PEM, those between it and an authority after it)"},
    {"tls_key", 0, SETTING_TEXT, HEADS, NULL, 0, 0, "FILE", "the certificate's private key (PEM)"},
    {"cors", 0, SETTING_TEXT, HEADS, NULL, 0, 0, "ORIGIN",
     "web pages of this origin (https://chat.example) may use the API; *: of every"},
    {"insecure_no_key", 0, SETTING_SWITCH, HEADS, NULL, 0, 0, NULL,
     "listen beyond this machine without any key: whoever can reach the port may use the model"},
    {"rate", 0, SETTING_COUNT, CMD_KEYS, "0", 0, 1000000, "N", "requests a minute of a new API key; 0: no limit"},
    {"concurrency", 0, SETTING_COUNT, CMD_KEYS, "0", 0, 100000, "N", "its requests at once; 0: no limit"},
    {"models", 0, SETTING_TEXTS, CMD_KEYS, NULL, 0, 0, "ID,ID...", "the models it may use (all)"},
    {"model_name", 0, SETTING_TEXT, CMD_LOGITS, NULL, 0, 0, "NAME", "the model of --cluster, as /v1/models lists them"},
    {"model_name", 0, SETTING_TEXT, HEADS, NULL, 0, 0, "NAME", "the model's id in the API (the file's name)"},
    {"chat_template", 0, SETTING_TEXT, HEADS | CMD_RUN, NULL, 0, 0, "FILE",
     "a Jinja chat template to use instead of the model's own"},
    {"listen", 0, SETTING_TEXT, CMD_COORDINATOR, "0.0.0.0", 0, 0, "ADDRESS", "where nodes connect (encrypted)"},
    {"listen", 0, SETTING_TEXT, CMD_NODE, "0.0.0.0:0", 0, 0, "ADDRESS:PORT", "where other nodes connect (encrypted)"},
    {"advertise", 0, SETTING_TEXT, CMD_COORDINATOR | CMD_NODE, NULL, 0, 0, "HOST",
     "the address that the others dial (as seen by the coordinator)"},
    {"control_port", 0, SETTING_COUNT, CMD_COORDINATOR, "7311", 0, 65535, "PORT", "control links of nodes"},
    {"enrol_port", 0, SETTING_COUNT, CMD_COORDINATOR, "7312", 0, 65535, "PORT", "nodes that come with an invite"},
    {"blob_port", 0, SETTING_COUNT, CMD_COORDINATOR, "7313", 0, 65535, "PORT", "transfer of layers"},
    {"nodes", 0, SETTING_COUNT, CMD_COORDINATOR, "0", 0, 64, "N", "wait for N nodes before placing layers; 0: as soon "
     "as the model fits"},
    {"nodes", 0, SETTING_COUNT, CMD_UP, "3", 1, 64, "N", "nodes to start"},
    {"join", 'j', SETTING_TEXT, CMD_NODE, NULL, 0, 0, "INVITE", "the coordinator's invite line; once is enough"},
    {"name", 0, SETTING_TEXT, CMD_NODE, NULL, 0, 0, "NAME", "what this node is called (the host's name)"},
    {"memory", 0, SETTING_BYTES, CMD_NODE | CMD_UP, "0", 0, 1e18, "BYTES",
     "for layers and KV, per node (nine tenths of what is free)"},
    {"lease_ms", 0, SETTING_COUNT, CMD_COORDINATOR | CMD_UP, "6000", 1000, 600000, "MS",
     "a node that is silent for longer is gone"},
    {"rows_type", 0, SETTING_TEXT, CMD_COORDINATOR | CMD_UP, "f32", 0, 0, "TYPE",
     "activations between nodes: f32, f16 or bf16"},
    {"ask", 0, SETTING_TEXT, CMD_UP, NULL, 0, 0, "PROMPT", "ask one question, print the answer, and stop"},
    {"keep", 0, SETTING_SWITCH, CMD_UP, NULL, 0, 0, NULL, "after --ask, leave the cluster up until Ctrl-C"},
    {"state_dir", 0, SETTING_TEXT, HEADS | CMD_NODE | CLIENTS, NULL, 0, 0, "DIR",
     "keys, members and memberships (~/.local/state/shoal)"},
    {"state_dir", 0, SETTING_TEXT, CMD_RUN, NULL, 0, 0, "DIR",
     "what was typed, and saved conversations (~/.local/state/shoal)"},
    {"cache_dir", 0, SETTING_TEXT, HEADS | CMD_NODE, NULL, 0, 0, "DIR", "fetched layers (~/.cache/shoal)"},

    /* what a shard holds */
    {"context", 'c', SETTING_COUNT, HEADS | CMD_RUN, "0", 0, 1 << 24, "TOKENS", "longest sequence (the model's, up to "
     "8192)"},
    {"kv_tokens", 0, SETTING_COUNT, HEADS, "0", 0, 1 << 30, "TOKENS", "KV cache of all sequences together"},
    {"kv_tokens", 0, SETTING_COUNT, CMD_SHOW, "0", 0, 1 << 30, "TOKENS", "KV cache of the range (the context, up to "
     "8192)"},
    {"kv_type", 0, SETTING_TEXT, HEADS | LOCAL | CMD_SHOW, "auto", 0, 0, "TYPE", "auto, f32 or f16"},
    {"sequences", 0, SETTING_COUNT, HEADS | CMD_SHOW, "16", 1, 256, "N", "sequences at once"},
    {"batch_rows", 0, SETTING_COUNT, HEADS | CMD_SHOW, "512", 1, 1024, "ROWS", "most rows of a step"},

    {"lora", 0, SETTING_TEXTS, LOCAL, NULL, 0, 0, "FILE[:SCALE]", "a LoRA adapter for the model"},
    {"lora", 0, SETTING_TEXTS, HEADS, NULL, 0, 0, "[NAME=]FILE[:SCALE]",
     "a LoRA adapter, for requests that ask for model MODEL:NAME; several times for several"},

    /* how it computes */
    {"threads", 't', SETTING_COUNT, COMPUTES | CMD_LOGITS | CMD_QUANTIZE | CMD_SHOW, "0", 0, 256, "N",
     "compute threads (every core)"},
    {"threads", 't', SETTING_COUNT, CMD_UP, "0", 0, 256, "N", "compute threads of each node (the cores, shared out)"},
    {"threads", 't', SETTING_LIST, CMD_BENCH, "0", 0, 256, "N,N...", "thread counts to measure (every core)"},
    {"backend", 0, SETTING_TEXT, COMPUTES | CMD_BENCH | CMD_LOGITS, NULL, 0, 0, "NAME", "cpu (the best there is)"},
    {"isa", 0, SETTING_TEXT, COMPUTES | CMD_BENCH | CMD_LOGITS, NULL, 0, 0, "NAME",
     "scalar, avx2, avx512 or neon (the best there is)"},
    {"pin", 0, SETTING_SWITCH, COMPUTES | CMD_BENCH, NULL, 0, 0, NULL, "pin compute threads to cores"},

    /* how it answers */
    {"max_tokens", 'n', SETTING_COUNT, CMD_RUN, "0", 0, 1 << 24, "N", "longest answer (to the context's end)"},
    {"max_tokens", 'n', SETTING_COUNT, CMD_UP, "256", 1, 1 << 24, "N", "longest answer to --ask"},
    {"temperature", 0, SETTING_REAL, CMD_RUN, "0.8", 0, 100, "X", "0 always takes the likeliest token"},
    {"temperature", 0, SETTING_REAL, CMD_UP, "0", 0, 100, "X", "of --ask; 0 always takes the likeliest token"},
    {"top_k", 0, SETTING_COUNT, CMD_RUN, "40", 0, 1 << 24, "N", "draw from the N likeliest; 0: from all"},
    {"top_p", 0, SETTING_REAL, CMD_RUN, "0.95", 0, 1, "X", "draw from the likeliest that sum to X"},
    {"min_p", 0, SETTING_REAL, CMD_RUN, "0.05", 0, 1, "X", "drop those below X times the likeliest"},
    {"repetition_penalty", 0, SETTING_REAL, CMD_RUN, "1", 0.01, 100, "X", "over the last 64 tokens; 1: off"},
    {"presence_penalty", 0, SETTING_REAL, CMD_RUN, "0", -100, 100, "X", "0: off"},
    {"frequency_penalty", 0, SETTING_REAL, CMD_RUN, "0", -100, 100, "X", "0: off"},
    {"seed", 0, SETTING_COUNT, CMD_RUN, "0", 0, 9e15, "N", "of the draw; 0: a new one each time"},
    {"system", 0, SETTING_TEXT, CMD_RUN, NULL, 0, 0, "TEXT", "system message of a chat"},
    {"raw", 0, SETTING_SWITCH, CMD_RUN, NULL, 0, 0, NULL, "continue the prompt as plain text, no chat template"},
    {"think", 0, SETTING_TEXT, CMD_RUN, NULL, 0, 0, "HOW",
     "on or off, or an effort (low, high ...) that the model's template knows"},
    {"verbose", 0, SETTING_SWITCH, CMD_RUN, NULL, 0, 0, NULL, "say after each answer how fast it was"},

    /* tools */
    {"pieces", 0, SETTING_SWITCH, CMD_TOKENIZE, NULL, 0, 0, NULL, "a line a token: id and text"},
    {"detokenize", 'd', SETTING_SWITCH, CMD_TOKENIZE, NULL, 0, 0, NULL, "ids in, text out"},
    {"special", 0, SETTING_SWITCH, CMD_TOKENIZE, NULL, 0, 0, NULL, "recognise control tokens in the text"},
    {"bos", 0, SETTING_SWITCH, CMD_TOKENIZE, NULL, 0, 0, NULL, "add the model's begin and end tokens as it asks"},

    {"layers", 0, SETTING_TEXT, CMD_SHOW, NULL, 0, 0, "A:B", "what a node needs for layers A to B - 1 (all of them)"},
    {"layers", 0, SETTING_TEXT, CMD_PULL, NULL, 0, 0, "A:B", "only what a node needs for layers A to B - 1 (all)"},
    {"as", 0, SETTING_TEXT, CMD_PULL, NULL, 0, 0, "NAME[:TAG]", "what it is called here (ORG/REPO:QUANT)"},
    {"connections", 0, SETTING_COUNT, CMD_PULL, "4", 1, 16, "N", "parts of a file that are fetched at once"},
    {"layers", 0, SETTING_COUNT, CMD_SYNTH, "16", 1, 1024, "N", "transformer layers"},
    {"hidden", 0, SETTING_COUNT, CMD_SYNTH, "1024", 1, 1 << 17, "N", "values of a row"},
    {"heads", 0, SETTING_COUNT, CMD_SYNTH, "16", 1, 4096, "N", "query heads"},
    {"kv_heads", 0, SETTING_COUNT, CMD_SYNTH, "4", 1, 4096, "N", "KV heads"},
    {"head_dim", 0, SETTING_COUNT, CMD_SYNTH, "0", 0, 512, "N", "values of a head (hidden / heads)"},
    {"ffn", 0, SETTING_COUNT, CMD_SYNTH, "0", 0, 1 << 20, "N", "width of a dense feed-forward layer (4 x hidden)"},
    {"experts", 0, SETTING_COUNT, CMD_SYNTH, "0", 0, 1024, "N", "experts of a layer (32 where the family has them)"},
    {"experts_used", 0, SETTING_COUNT, CMD_SYNTH, "0", 0, 64, "N", "experts of a token (4)"},
    {"expert_ffn", 0, SETTING_COUNT, CMD_SYNTH, "0", 0, 1 << 20, "N", "width of an expert (768)"},
    {"lead_dense", 0, SETTING_COUNT, CMD_SYNTH, "0", 0, 1024, "N", "layers before those with experts (the shape's)"},
    {"vocab", 0, SETTING_COUNT, CMD_SYNTH, "50304", 1, 1 << 21, "N", "rows of the embedding"},
    {"context", 'c', SETTING_COUNT, CMD_SYNTH, "4096", 1, 1 << 24, "N", "context length"},
    {"type", 0, SETTING_TEXT, CMD_SYNTH, "q4_k_m", 0, 0, "TYPE",
     "F16, BF16, Q8_0, Q4_0, Q4_K_M, Q5_K_M, Q6_K or MXFP4 as quantize has them, or all matrices in any type of files"},
    {"seed", 0, SETTING_COUNT, CMD_SYNTH, "1", 0, 9e15, "N", "same seed, same bytes"},
    {"tokenizer", 0, SETTING_TEXT, CMD_SYNTH, NULL, 0, 0, "MODEL", "GGUF file or folder to borrow the tokenizer from"},

    {"prompt", 'p', SETTING_COUNT, CMD_BENCH, "512", 0, 1 << 20, "TOKENS", "prefill length; 0: skip"},
    {"generate", 'n', SETTING_COUNT, CMD_BENCH, "64", 0, 1 << 20, "TOKENS", "tokens to decode; 0: skip"},
    {"repeat", 'r', SETTING_COUNT, CMD_BENCH, "5", 1, 1000, "N", "times each is measured"},
    {"batch", 'b', SETTING_LIST, CMD_BENCH, "1", 1, 256, "N,N...", "sequences decoded at once"},
    {"depth", 'd', SETTING_COUNT, CMD_BENCH, "0", 0, 1 << 20, "TOKENS", "context before what is measured"},
    {"compare", 0, SETTING_TEXT, CMD_BENCH, NULL, 0, 0, "COMMAND",
     "a peer's benchmark, run in turns with ours; {model}, {threads}, {prompt}, {generate}, {depth} are filled in"},
    {"machine", 0, SETTING_SWITCH, CMD_BENCH, NULL, 0, 0, NULL,
     "measure memory and arithmetic alone, without a model"},
    {"nodes", 0, SETTING_COUNT, CMD_BENCH, "0", 0, 64, "N",
     "also measure a local cluster of N nodes, in turns with one process"},
    {"cluster", 0, SETTING_TEXT, CMD_BENCH | CMD_LOGITS, NULL, 0, 0, "URL|FILE",
     "a running cluster: its base URL or the coordinator's YAML file"},
    {"json", 0, SETTING_SWITCH, CMD_BENCH | CMD_STATUS | CMD_SHOW | CMD_KEYS | CMD_LS, NULL, 0, 0, NULL,
     "print JSON"},

    {"tokens", 0, SETTING_LIST, CMD_LOGITS, NULL, 0, 2147483647, "ID,ID...", "the tokens to run"},
    {"out", 'o', SETTING_TEXT, CMD_LOGITS, NULL, 0, 0, "FILE", "where the float32 rows go"},
    {"batch_rows", 0, SETTING_COUNT, CMD_LOGITS, "512", 1, 1024, "ROWS", "rows of a step"},

    {"url", 0, SETTING_TEXT, CLIENTS, "http://127.0.0.1:8080", 0, 0, "URL", "the coordinator's base URL"},
    {"api_key", 0, SETTING_TEXT, CLIENTS | CMD_BENCH | CMD_LOGITS, NULL, 0, 0, "KEY", "the cluster's API key"},
    {"tls_ca", 0, SETTING_TEXT, CLIENTS | CMD_BENCH | CMD_LOGITS, NULL, 0, 0, "FILE",
     "certificates to trust at an https URL (PEM; the system's)"},
    {"uses", 0, SETTING_COUNT, CMD_INVITE, "1", 1, 1000, "N", "nodes that may join with it"},
    {"ttl", 0, SETTING_COUNT, CMD_INVITE, "86400", 1, 31536000, "SECONDS", "how long it is valid"},
    {"advertise", 0, SETTING_TEXT, CMD_INVITE, NULL, 0, 0, "HOST", "address of the coordinator in the invite"},
};

const size_t setting_row_count = COUNTOF(setting_rows);
