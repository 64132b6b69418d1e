// The `openai-java` SDK. Reads the names of scenarios, one a line, and prints what came of each as a line of JSON. The
// SDK itself reads OPENAI_BASE_URL and OPENAI_API_KEY; MODEL is the model's name, PICTURE a PNG file.

import com.fasterxml.jackson.databind.ObjectMapper;
import com.openai.client.OpenAIClient;
import com.openai.client.okhttp.OpenAIOkHttpClient;
import com.openai.core.JsonValue;
import com.openai.core.RequestOptions;
import com.openai.core.http.StreamResponse;
import com.openai.errors.OpenAIException;
import com.openai.errors.OpenAIServiceException;
import com.openai.models.FunctionDefinition;
import com.openai.models.FunctionParameters;
import com.openai.models.chat.completions.ChatCompletion;
import com.openai.models.chat.completions.ChatCompletionChunk;
import com.openai.models.chat.completions.ChatCompletionContentPart;
import com.openai.models.chat.completions.ChatCompletionContentPartImage;
import com.openai.models.chat.completions.ChatCompletionContentPartText;
import com.openai.models.chat.completions.ChatCompletionCreateParams;
import com.openai.models.chat.completions.ChatCompletionStreamOptions;
import com.openai.models.models.Model;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashMap;
import java.util.Iterator;
import java.util.List;
import java.util.Map;

public class OpenAi {
    static final int MIB = 1024 * 1024;
    static final String MODEL = System.getenv("MODEL");
    static final String COUNT = "List the numbers from 1 to 1000: 1, 2, 3, 4, 5, 6,";
    static final OpenAIClient client = OpenAIOkHttpClient.fromEnv();

    static ChatCompletionCreateParams.Builder request(long maxTokens) {
        return ChatCompletionCreateParams.builder().model(MODEL).maxCompletionTokens(maxTokens).temperature(0.0);
    }

    static Map<String, Object> ask(ChatCompletionCreateParams params, RequestOptions options) {
        ChatCompletion answer = client.chat().completions().create(params, options);
        Map<String, Object> told = new HashMap<>();
        told.put("text", answer.choices().get(0).message().content().orElse(null));
        told.put("calls", answer.choices().get(0).message().toolCalls().map(List::size).orElse(0));
        answer.usage().ifPresent(usage -> told.put("usage", usage.completionTokens()));
        return told;
    }

    static Map<String, Object> ask(ChatCompletionCreateParams params) {
        return ask(params, RequestOptions.none());
    }

    static Map<String, Object> models(OpenAIClient client) {
        List<String> ids = new ArrayList<>();
        for (Model model : client.models().list().autoPager()) {
            ids.add(model.id());
        }
        return Map.of("models", ids);
    }

    static Map<String, Object> stream() {
        long began = System.nanoTime();
        Double first = null;
        List<String> texts = new ArrayList<>();
        ChatCompletionCreateParams params = request(60).addUserMessage(COUNT).build();
        try (StreamResponse<ChatCompletionChunk> chunks = client.chat().completions().createStreaming(params)) {
            for (ChatCompletionChunk chunk : (Iterable<ChatCompletionChunk>) chunks.stream()::iterator) {
                for (ChatCompletionChunk.Choice choice : chunk.choices()) {
                    String text = choice.delta().content().orElse("");
                    if (!text.isEmpty()) {
                        first = first == null ? (System.nanoTime() - began) / 1e9 : first;
                        texts.add(text);
                    }
                }
            }
        }
        return Map.of("text", String.join("", texts), "pieces", texts.size(), "first_s", first == null ? 0 : first);
    }

    static Map<String, Object> usage() {
        ChatCompletionStreamOptions options = ChatCompletionStreamOptions.builder().includeUsage(true).build();
        ChatCompletionCreateParams params = request(20).addUserMessage(COUNT).streamOptions(options).build();
        long tokens = 0;
        try (StreamResponse<ChatCompletionChunk> chunks = client.chat().completions().createStreaming(params)) {
            for (ChatCompletionChunk chunk : (Iterable<ChatCompletionChunk>) chunks.stream()::iterator) {
                tokens = chunk.usage().map(usage -> usage.completionTokens()).orElse(0L);
            }
        }
        return Map.of("usage", tokens);
    }

    static Map<String, Object> tools() {
        FunctionParameters parameters = FunctionParameters.builder()
            .putAdditionalProperty("type", JsonValue.from("object"))
            .putAdditionalProperty("properties", JsonValue.from(Map.of("city", Map.of("type", "string"))))
            .putAdditionalProperty("required", JsonValue.from(List.of("city")))
            .build();
        FunctionDefinition weather = FunctionDefinition.builder()
            .name("weather").description("The weather of a city.").parameters(parameters).build();
        return ask(request(20).addUserMessage("How is the weather in Oslo?").addFunctionTool(weather).build());
    }

    static Map<String, Object> picture() throws IOException {
        String content = Base64.getEncoder().encodeToString(Files.readAllBytes(Path.of(System.getenv("PICTURE"))));
        var url = ChatCompletionContentPartImage.ImageUrl.builder().url("data:image/png;base64," + content).build();
        return ask(request(20).addUserMessageOfArrayOfContentParts(List.of(
            ChatCompletionContentPart.ofText(ChatCompletionContentPartText.builder().text("What is this?").build()),
            ChatCompletionContentPart.ofImageUrl(ChatCompletionContentPartImage.builder().imageUrl(url).build())
        )).build());
    }

    static Map<String, Object> abort() {
        int pieces = 0;
        ChatCompletionCreateParams params = request(1500).addUserMessage(COUNT).build();
        // Leaving the block closes the connection, which ends the work on the model's server.
        try (StreamResponse<ChatCompletionChunk> chunks = client.chat().completions().createStreaming(params)) {
            Iterator<ChatCompletionChunk> each = chunks.stream().iterator();
            for (; pieces < 5 && each.hasNext(); pieces++) {
                each.next();
            }
        }
        return Map.of("pieces", pieces);
    }

    static Map<String, Object> run(String scenario) throws IOException {
        return switch (scenario) {
            case "models" -> models(client);
            case "plain" -> ask(request(20).addUserMessage(COUNT).build());
            case "stream" -> stream();
            case "usage" -> usage();
            case "tools" -> tools();
            case "picture" -> picture();
            case "wrong_key" -> models(client.withOptions(other -> other.apiKey("sk-nobody-has-this-key-0123456789")));
            case "too_large" -> ask(request(20).addUserMessage("x".repeat(31 * MIB)).build());
            case "abort" -> abort();
            case "impatient" -> ask(
                request(20).addUserMessage(COUNT).build(),
                RequestOptions.builder().timeout(Duration.ofSeconds(2)).build());
            default -> throw new IllegalArgumentException(scenario);
        };
    }

    public static void main(String[] args) throws IOException {
        ObjectMapper json = new ObjectMapper();
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            Map<String, Object> told;
            try {
                told = run(line);
            } catch (OpenAIServiceException refused) {
                told = Map.of("error", refused.getClass().getSimpleName(), "status", refused.statusCode());
            } catch (OpenAIException failed) {
                told = Map.of("error", failed.getClass().getSimpleName());
            }
            System.out.println(json.writeValueAsString(told));
        }
        // OkHttp's threads would keep the process for a minute.
        System.exit(0);
    }
}
