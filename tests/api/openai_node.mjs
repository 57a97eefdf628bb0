// openai_node: the unmodified openai package of npm against a running server: openai_node.mjs FOLDER URL
// FOLDER has the package in its node_modules.
import assert from 'node:assert/strict';
import {createRequire} from 'node:module';
import {setTimeout as sleep} from 'node:timers/promises';

const [folder, baseURL] = process.argv.slice(2);
const OpenAI = createRequire(`${folder}/`)('openai').default;
const client = new OpenAI({baseURL, apiKey: 'none', maxRetries: 0, timeout: 120_000});
const QUESTION = [{role: 'user', content: 'What is the capital of France?'}];
const ANSWER = 'The capital of France is Paris.';
const WEATHER = [{role: 'user', content: 'What is the weather in Paris?'}];
const TOOL = {
    name: 'get_weather', description: 'Get the weather of a city.',
    parameters: {type: 'object', properties: {city: {type: 'string'}}, required: ['city']},
};
const TOWN = {
    type: 'object', required: ['name', 'people'], additionalProperties: false,
    properties: {name: {type: 'string', maxLength: 10}, people: {type: 'integer', minimum: 0, maximum: 99999}},
};

const [{id: model}] = (await client.models.list()).data;
const ask = {model, messages: QUESTION, temperature: 0};
const endless = {...ask, temperature: 1.2, max_tokens: 1500, ignore_eos: true};

async function metric(name) {
    const text = await (await fetch(baseURL.replace('/v1', '/metrics'))).text();
    return Number(text.match(new RegExp(`^${name} (\\S+)$`, 'm'))[1]);
}

const checks = {
    async models() {
        assert.equal((await client.models.retrieve(model)).id, model);
        await assert.rejects(client.models.retrieve('gpt-unknown'), OpenAI.NotFoundError);
    },

    async answers() {
        const reply = await client.chat.completions.create(ask);
        assert.equal(reply.choices[0].message.content, ANSWER);
        assert.equal(reply.choices[0].finish_reason, 'stop');
        assert.ok(reply.usage.completion_tokens > 5 && reply._request_id);
        const raw = await client.completions.create({model, prompt: 'ROMEO:\n', max_tokens: 8, temperature: 0});
        assert.ok(raw.choices[0].text.startsWith("I'll tell thee"), raw.choices[0].text);
    },

    async streams() {
        let text = '', usage;
        const options = {...ask, stream: true, stream_options: {include_usage: true}};
        for await (const chunk of await client.chat.completions.create(options)) {
            text += chunk.choices[0]?.delta.content ?? '';
            usage = chunk.usage ?? usage;
        }
        assert.equal(text, ANSWER);
        assert.ok(usage.prompt_tokens > 5 && usage.completion_tokens > 5);
        text = '';
        const stream = await client.completions.create({model, prompt: 'ROMEO:\n', max_tokens: 8, stream: true,
                                                        temperature: 0});
        for await (const chunk of stream)
            text += chunk.choices[0].text;
        assert.ok(text.startsWith("I'll tell thee"), text);
    },

    /* Its helper throws where a choice has no role or reason to finish, at its end. */
    async helper() {
        const parts = [];
        const one = client.chat.completions.stream({...ask, stream_options: {include_usage: true}});
        one.on('content', part => parts.push(part));
        assert.equal(await one.finalContent(), ANSWER);
        assert.equal(parts.join(''), ANSWER);
        assert.ok((await one.totalUsage()).total_tokens > 10);
        const three = await client.chat.completions.stream({...ask, n: 3, temperature: 1}).finalChatCompletion();
        assert.deepEqual(three.choices.map(choice => choice.index), [0, 1, 2]);
    },

    async parse() {
        const format = {type: 'json_schema', json_schema: {name: 'town', strict: true, schema: TOWN}};
        const reply = await client.chat.completions.parse({...ask, max_tokens: 200, response_format: format});
        const {parsed} = reply.choices[0].message;
        assert.ok(typeof parsed.name === 'string' && Number.isInteger(parsed.people), JSON.stringify(parsed));
    },

    async tools() {
        const tools = [{type: 'function', function: TOOL}];
        const whole = (await client.chat.completions.create({...ask, messages: WEATHER, tools})).choices[0];
        const streamed = await client.chat.completions.stream({...ask, messages: WEATHER, tools}).finalChatCompletion();
        for (const choice of [whole, streamed.choices[0]]) {
            assert.equal(choice.finish_reason, 'tool_calls');
            assert.equal(choice.message.tool_calls.length, 1);
            assert.equal(choice.message.tool_calls[0].function.name, 'get_weather');
            assert.deepEqual(JSON.parse(choice.message.tool_calls[0].function.arguments), {city: 'Paris'});
        }
        const forced = await client.chat.completions.create({...ask, tools, tool_choice: 'required', max_tokens: 100});
        assert.equal(forced.choices[0].message.tool_calls[0].function.name, 'get_weather');
        const asked = [];
        const runner = client.chat.completions.runTools({
            model, messages: WEATHER, temperature: 0, stream: true,
            tools: [{type: 'function', function: {...TOOL, parse: JSON.parse, function: async city => {
                asked.push(city);
                return 'sunny';
            }}}],
        }, {maxChatCompletions: 2});
        await runner.finalChatCompletion();
        assert.deepEqual(asked[0], {city: 'Paris'});
        assert.equal(runner.messages[2].role, 'tool');
    },

    async responses() {
        const request = {model, input: QUESTION[0].content, temperature: 0};
        assert.equal((await client.responses.create(request)).output_text, ANSWER);
        const stream = client.responses.stream(request), kinds = [];
        for await (const event of stream)
            kinds.push(event.type);
        assert.equal((await stream.finalResponse()).output_text, ANSWER);
        assert.deepEqual([kinds[0], kinds.at(-1)], ['response.created', 'response.completed']);
    },

    /* Without an encoding_format it asks for base64, and gives numbers. */
    async embeddings() {
        const both = (await client.embeddings.create({model, input: ['a', 'b']})).data;
        const floats = (await client.embeddings.create({model, input: 'b', encoding_format: 'float'})).data[0].embedding;
        assert.equal(both.length, 2);
        assert.equal(both[1].embedding.length, floats.length);
        assert.ok(floats.every((value, i) => Math.abs(value - both[1].embedding[i]) < 1e-6));
    },

    async errors() {
        const refused = fields => client.chat.completions.create({...ask, ...fields});
        await assert.rejects(refused({model: 'gpt-unknown'}), {status: 404, code: 'model_not_found'});
        await assert.rejects(refused({temperature: 9}), {status: 400, param: 'temperature'});
        const words = [{role: 'user', content: 'word '.repeat(5000)}];
        await assert.rejects(refused({messages: words}), {status: 400, code: 'context_length_exceeded'});
        await assert.rejects(refused({messages: words, stream: true}), OpenAI.BadRequestError);
    },

    async many() {
        const replies = await Promise.all(Array.from({length: 12}, () => client.chat.completions.create(ask)));
        assert.ok(replies.every(reply => reply.choices[0].message.content === ANSWER));
    },

    async leaving() {
        let chunks = 0;
        for await (const chunk of await client.chat.completions.create({...endless, stream: true}))
            if (chunk.choices && ++chunks === 3)
                break;
        const aborted = client.chat.completions.stream(endless);
        aborted.on('chunk', () => aborted.abort());
        await assert.rejects(aborted.done(), OpenAI.APIUserAbortError);
        await assert.rejects(client.chat.completions.create(endless, {timeout: 100}), OpenAI.APIConnectionTimeoutError);
        for (let i = 0; i < 200 && await metric('shoal_requests_running') > 0; i++)
            await sleep(50);
        assert.equal(await metric('shoal_requests_running'), 0);
        assert.ok(await metric('shoal_requests_cancelled_total') >= 3);
    },
};

for (const [name, check] of Object.entries(checks))
    await check().catch(error => {
        console.error(`${name}: ${error.stack}`);
        process.exit(1);
    });
console.log('openai of npm: all well');
process.exit(0); // connections that are kept alive would hold it
