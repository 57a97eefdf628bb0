# The OpenAI-compatible API and the coordinator that holds it all together.
shoal_module(api
    SOURCES coordinator.c api/api.c api/routes.c api/openapi.c api/reply.c api/request.c api/fields.c api/bias.c api/format.c api/grammars.c api/chat.c api/prefill.c api/chat_shape.c api/completions.c api/answer.c api/whole.c api/openai.c
            api/generation.c api/parts.c api/tools.c api/reasoning.c api/score.c api/info.c api/metrics.c api/meters.c api/about.c api/tokenize.c api/logits.c api/admin.c
            api/ollama_models.c api/ollama_request.c api/ollama_answer.c api/ollama_chat.c api/ollama_store.c api/ollama_pull.c
            api/translate.c api/count.c api/anthropic_request.c api/anthropic_answer.c api/anthropic_messages.c
            api/responses.c api/responses_request.c api/responses_items.c api/responses_kept.c api/responses_answer.c
            api/embeddings.c
            api/pooled.c api/rerank.c api/fim.c api/infill.c
            api/ollama_embed.c
            web/page.c
            api/keys.c api/keys_db.c api/keys_admin.c
    DEPENDS gateway control http pull text PkgConfig::MICROHTTPD PkgConfig::JANSSON PkgConfig::SODIUM PkgConfig::SQLITE m)
shoal_embed(api api/schemas.json api_schemas)
# The page: its files, their symbols and the table of both come from one list.
set(page_files index.html style.css cluster.css icon.svg main.js dom.js icons.js server.js stream.js markdown.js inline.js
    store.js conversation.js exchange.js chat.js turn.js list.js composer.js settings.js key.js models.js speech.js
    theme.js shortcuts.js welcome.js keep.js code.js cluster.js band.js nodes.js words.js)
set(page_table "")
set(page_externs "")
foreach(file ${page_files})
    string(REGEX REPLACE "[^a-z]" "_" symbol page_${file})
    shoal_embed(api web/${file} ${symbol})
    string(APPEND page_externs "extern const unsigned char ${symbol}[];\nextern const size_t ${symbol}_len;\n")
    string(APPEND page_table " \\\n    X(\"${file}\", ${symbol})")
endforeach()
file(CONFIGURE OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/web/files.h CONTENT
    "/* Made of coordinator/api.cmake's list. */\n#include <stddef.h>\n${page_externs}#define PAGE_FILES${page_table}\n"
    @ONLY)
