# The OpenAI-compatible API and the coordinator that holds it all together.
shoal_module(api
    SOURCES coordinator.c api/api.c api/routes.c api/openapi.c api/reply.c api/request.c api/fields.c api/bias.c api/format.c api/grammars.c api/chat.c api/chat_shape.c api/completions.c api/answer.c api/whole.c api/openai.c
            api/generation.c api/parts.c api/score.c api/info.c api/metrics.c api/meters.c api/about.c api/tokenize.c api/logits.c api/admin.c
            api/ollama_models.c api/ollama_request.c api/ollama_answer.c api/ollama_chat.c
            api/translate.c api/count.c api/anthropic_request.c api/anthropic_answer.c api/anthropic_messages.c
            api/responses.c api/responses_request.c api/responses_items.c api/responses_answer.c
            api/embeddings.c
            api/ollama_embed.c
            api/keys.c api/keys_db.c api/keys_admin.c
    DEPENDS gateway control http text PkgConfig::MICROHTTPD PkgConfig::JANSSON PkgConfig::SODIUM PkgConfig::SQLITE m)
shoal_embed(api api/schemas.json api_schemas)
