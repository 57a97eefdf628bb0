/* routes: one row an endpoint. */
#include "coordinator/api/routes.h"

#include <string.h>

#include "base/memory.h"
#include "coordinator/api/private.h"

enum { ADMIN_BODY_MAX = 64 << 10, V1_LEN = 3 };

#define WORK (FOR_USERS | HTTP_BODY)

/* method, path, handler, flags, largest body, form of errors; summary; request, response, event. */
static const struct api_route routes[] = {
    { "POST", "/v1/chat/completions", api_chat, WORK | ALSO_BARE, API_BODY_MAX, ERRORS_OPENAI,
      "Continue a conversation.", "ChatRequest", "Chat", "ChatChunk" },
    { "POST", "/v1/chat/completions/input_tokens", api_chat_count, WORK | ALSO_BARE, API_BODY_MAX, ERRORS_OPENAI,
      "Count the tokens of a conversation.", "TemplateRequest", "InputTokens", NULL },
    { "POST", "/v1/responses", api_responses, WORK | ALSO_BARE, API_BODY_MAX, ERRORS_OPENAI,
      "Answer a text or a list of items.", "ResponsesRequest", "Response", "ResponseEvent" },
    { "GET", "/v1/responses/", api_response, FOR_USERS | HTTP_PREFIX | ALSO_BARE, 0, ERRORS_OPENAI,
      "A response that is kept.", NULL, "Response", NULL },
    { "DELETE", "/v1/responses/", api_response_delete, FOR_USERS | HTTP_PREFIX | ALSO_BARE, 0, ERRORS_OPENAI,
      "Forget a response.", NULL, "ResponseDeleted", NULL },
    { "POST", "/v1/responses/input_tokens", api_responses_count, WORK | ALSO_BARE, API_BODY_MAX, ERRORS_OPENAI,
      "Count the tokens of such a request.", "ResponsesRequest", "InputTokens", NULL },
    { "POST", "/v1/messages", api_messages, WORK | ALSO_BARE, API_BODY_MAX, ERRORS_ANTHROPIC,
      "Continue a conversation, as Anthropic's API does.", "MessagesRequest", "AnthropicMessage", "AnthropicEvent" },
    { "POST", "/v1/messages/count_tokens", api_messages_count, WORK | ALSO_BARE, API_BODY_MAX, ERRORS_ANTHROPIC,
      "Count the tokens of such a conversation.", "MessagesCountRequest", "AnthropicCount", NULL },
    { "POST", "/v1/completions", api_completions, WORK | ALSO_BARE, API_BODY_MAX, ERRORS_OPENAI,
      "Continue a text or token ids.", "CompletionRequest", "Completion", "Completion" },
    { "POST", "/completion", api_completion, WORK, API_BODY_MAX, ERRORS_OPENAI,
      "Continue a text or token ids, as llama.cpp does.", "NativeRequest", "Infill", "Infill" },
    { "POST", "/infill", api_infill, WORK, API_BODY_MAX, ERRORS_OPENAI,
      "What belongs between two texts, for models that have tokens for it; as llama.cpp.", "InfillRequest", "Infill",
      "Infill" },
    { "POST", "/v1/embeddings", api_embeddings, WORK | ALSO_BARE, API_BODY_MAX, ERRORS_OPENAI,
      "Vectors of texts or token ids, of length one.", "EmbeddingsRequest", "Embeddings", NULL },
    { "POST", "/v1/rerank", api_rerank, WORK | ALSO_BARE, API_BODY_MAX, ERRORS_OPENAI,
      "How well documents answer a query, by models that rank.", "RerankRequest", "Rerank", NULL },
    { "POST", "/v1/reranking", api_rerank, WORK | ALSO_BARE, API_BODY_MAX, ERRORS_OPENAI,
      "The same as /v1/rerank.", "RerankRequest", "Rerank", NULL },
    { "POST", "/v2/rerank", api_rerank, WORK, API_BODY_MAX, ERRORS_OPENAI,
      "The same as /v1/rerank.", "RerankRequest", "Rerank", NULL },
    { "GET", "/v1/models", api_models, FOR_USERS | ALSO_BARE, 0, ERRORS_OPENAI,
      "The model, and as models of their own its adapters.", NULL, "ModelList", NULL },
    { "GET", "/v1/models/", api_model, FOR_USERS | HTTP_PREFIX | ALSO_BARE, 0, ERRORS_OPENAI,
      "One model by its id.", NULL, "Model", NULL },
    { "POST", "/apply-template", api_apply_template, WORK, API_BODY_MAX, ERRORS_OPENAI,
      "The text that the model would get of a conversation.", "TemplateRequest", "Template", NULL },
    { "POST", "/tokenize", api_tokenize, WORK, API_BODY_MAX, ERRORS_OPENAI,
      "Token ids of a text.", "TokenizeRequest", "Tokens", NULL },
    { "POST", "/detokenize", api_detokenize, WORK, API_BODY_MAX, ERRORS_OPENAI,
      "The text of token ids.", "DetokenizeRequest", "Text", NULL },
    { "GET", "/v1/health", api_health, ALSO_BARE, 0, ERRORS_OPENAI,
      "Whether the model can answer; else a 503 that says why.", NULL, "Health", NULL },
    { "GET", "/ready", api_health, 0, 0, ERRORS_OPENAI,
      "The same as /health.", NULL, "Health", NULL },
    { "GET", "/version", api_version, 0, 0, ERRORS_OPENAI,
      "The version of this server.", NULL, "Version", NULL },
    { "GET", "/props", api_props, FOR_USERS, 0, ERRORS_OPENAI,
      "The model's context, template and tokens, as llama.cpp tells them.", NULL, "Props", NULL },
    { "GET", "/", api_root, 0, 0, ERRORS_OLLAMA,
      "That a server is here, in Ollama's words; to a browser the page.", NULL, "text/plain", NULL },
    { "GET", "/ui", api_page, OF_PAGE, 0, ERRORS_OPENAI, "The page for browsers.", NULL, "text/html", NULL },
    { "GET", "/ui/", api_page, OF_PAGE | HTTP_PREFIX, 0, ERRORS_OPENAI,
      "A file of the page.", NULL, "text/html", NULL },
    { "GET", "/api/version", api_ollama_version, 0, 0, ERRORS_OLLAMA,
      "The version of Ollama whose API this is.", NULL, "Version", NULL },
    { "GET", "/api/tags", api_ollama_tags, FOR_USERS, 0, ERRORS_OLLAMA,
      "The models, in Ollama's shape.", NULL, "OllamaTags", NULL },
    { "GET", "/api/ps", api_ollama_ps, FOR_USERS, 0, ERRORS_OLLAMA,
      "The models that are loaded.", NULL, "OllamaPs", NULL },
    { "POST", "/api/show", api_ollama_show, WORK, ADMIN_BODY_MAX, ERRORS_OLLAMA,
      "All that is known of a model.", "OllamaShowRequest", "OllamaShow", NULL },
    { "POST", "/api/chat", api_ollama_chat, WORK | STREAMS_LINES, API_BODY_MAX, ERRORS_OLLAMA,
      "Continue a conversation, as Ollama does.", "OllamaChatRequest", "OllamaChat", "OllamaChat" },
    { "POST", "/api/generate", api_ollama_generate, WORK | STREAMS_LINES, API_BODY_MAX, ERRORS_OLLAMA,
      "Answer a prompt, as Ollama does.", "OllamaGenerateRequest", "OllamaGenerate", "OllamaGenerate" },
    { "POST", "/api/embed", api_ollama_embed, WORK, API_BODY_MAX, ERRORS_OLLAMA,
      "Vectors of texts.", "OllamaEmbedRequest", "OllamaEmbed", NULL },
    { "POST", "/api/embeddings", api_ollama_embeddings, WORK, API_BODY_MAX, ERRORS_OLLAMA,
      "The vector of a text; /api/embed replaces it.", "OllamaEmbeddingsRequest", "OllamaEmbeddings", NULL },
    { "POST", "/api/pull", api_ollama_pull, WORK | MANAGES | STREAMS_LINES, ADMIN_BODY_MAX, ERRORS_OLLAMA,
      "Fetch a model of the Hugging Face hub into the store.", "OllamaPullRequest", "OllamaStatus", "OllamaStatus" },
    { "POST", "/api/copy", api_ollama_copy, WORK | MANAGES, ADMIN_BODY_MAX, ERRORS_OLLAMA,
      "Give a model of the store a second name.", "OllamaCopyRequest", "text/plain", NULL },
    { "DELETE", "/api/delete", api_ollama_delete, WORK | MANAGES, ADMIN_BODY_MAX, ERRORS_OLLAMA,
      "Remove a model from the store.", "OllamaDeleteRequest", "text/plain", NULL },
    { "GET", "/openapi.json", api_openapi, 0, 0, ERRORS_OPENAI,
      "This document.", NULL, "OpenAPI", NULL },
    { "GET", "/metrics", api_metrics, FOR_USERS, 0, ERRORS_OPENAI,
      "Counters and gauges as Prometheus reads them.", NULL, "text/plain", NULL },
    { "GET", "/status", api_status, FOR_USERS, 0, ERRORS_OPENAI,
      "The whole picture of the cluster.", NULL, "Status", NULL },
    { "POST", "/shoal/logits", api_logits, WORK, API_BODY_MAX, ERRORS_OPENAI,
      "Logits of every token of a prompt, as rows of little-endian 32-bit floats.", "LogitsRequest",
      "application/octet-stream", NULL },
    { "POST", "/admin/invite", api_invite, FOR_OPERATOR | HTTP_BODY, ADMIN_BODY_MAX, ERRORS_OPENAI,
      "An invite with which nodes join.", "InviteRequest", "Invite", NULL },
    { "POST", "/admin/revoke", api_revoke, FOR_OPERATOR | HTTP_BODY, ADMIN_BODY_MAX, ERRORS_OPENAI,
      "Remove a member from the cluster.", "RevokeRequest", "Revoked", NULL },
    { "GET", "/admin/keys", api_keys_list, FOR_OPERATOR, 0, ERRORS_OPENAI,
      "The API keys of users.", NULL, "KeyList", NULL },
    { "POST", "/admin/keys", api_keys_create, FOR_OPERATOR | HTTP_BODY, ADMIN_BODY_MAX, ERRORS_OPENAI,
      "Make an API key.", "KeyRequest", "Key", NULL },
    { "POST", "/admin/keys/revoke", api_keys_revoke, FOR_OPERATOR | HTTP_BODY, ADMIN_BODY_MAX, ERRORS_OPENAI,
      "Revoke an API key.", "RevokeRequest", "Revoked", NULL },
    { "GET", "/admin/keys/usage", api_keys_usage, FOR_OPERATOR, 0, ERRORS_OPENAI,
      "Requests and tokens of each key and day.", NULL, "UsageList", NULL },
};

size_t api_route_count(void)
{
    return COUNTOF(routes);
}

const struct api_route *api_route_at(size_t i)
{
    return &routes[i];
}

static struct http_route http_of(const struct api_route *r, size_t skip)
{
    return (struct http_route){
        .method = r->method,
        .path = r->path + skip,
        .handle = r->handle,
        .flags = r->flags,
        .body_max = r->body_max,
        .row = r,
    };
}

struct http_route *api_http_routes(size_t *n)
{
    struct http_route *out = mem_array(2 * COUNTOF(routes), sizeof(*out));
    *n = 0;
    for (size_t i = 0; i < COUNTOF(routes); i++) {
        out[(*n)++] = http_of(&routes[i], 0);
        if (routes[i].flags & ALSO_BARE)
            out[(*n)++] = http_of(&routes[i], V1_LEN);
    }
    return out;
}
