// The `openai-go` SDK. Reads the names of scenarios, one a line, and prints what came of each as a line of JSON. The
// SDK itself reads OPENAI_BASE_URL and OPENAI_API_KEY; MODEL is the model's name, PICTURE a PNG file.
package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
)

const MiB = 1024 * 1024

var (
	model  = os.Getenv("MODEL")
	count  = openai.UserMessage("List the numbers from 1 to 1000: 1, 2, 3, 4, 5, 6,")
	client = openai.NewClient()
)

// told is what is printed of a scenario.
type told map[string]any

func request(maxTokens int64, messages ...openai.ChatCompletionMessageParamUnion) openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{
		Model:       model,
		Messages:    messages,
		MaxTokens:   openai.Int(maxTokens),
		Temperature: openai.Float(0),
	}
}

func ask(message openai.ChatCompletionMessageParamUnion, options ...option.RequestOption) (told, error) {
	answer, err := client.Chat.Completions.New(context.Background(), request(20, message), options...)
	if err != nil {
		return nil, err
	}
	return told{"text": answer.Choices[0].Message.Content, "usage": answer.Usage.CompletionTokens}, nil
}

func models(options ...option.RequestOption) (told, error) {
	ids := []string{}
	pages := client.Models.ListAutoPaging(context.Background(), options...)
	for pages.Next() {
		ids = append(ids, pages.Current().ID)
	}
	return told{"models": ids}, pages.Err()
}

func stream() (told, error) {
	began := time.Now()
	var first any
	var texts []string
	params := request(60, count)
	chunks := client.Chat.Completions.NewStreaming(context.Background(), params)
	defer chunks.Close()
	for chunks.Next() {
		chunk := chunks.Current()
		if len(chunk.Choices) > 0 && chunk.Choices[0].Delta.Content != "" {
			if first == nil {
				first = time.Since(began).Seconds()
			}
			texts = append(texts, chunk.Choices[0].Delta.Content)
		}
	}
	return told{"text": strings.Join(texts, ""), "pieces": len(texts), "first_s": first}, chunks.Err()
}

func usage() (told, error) {
	params := request(20, count)
	params.StreamOptions.IncludeUsage = openai.Bool(true)
	chunks := client.Chat.Completions.NewStreaming(context.Background(), params)
	defer chunks.Close()
	var tokens int64
	for chunks.Next() {
		tokens = chunks.Current().Usage.CompletionTokens
	}
	return told{"usage": tokens}, chunks.Err()
}

func tools() (told, error) {
	params := request(20, openai.UserMessage("How is the weather in Oslo?"))
	params.Tools = []openai.ChatCompletionToolUnionParam{
		openai.ChatCompletionFunctionTool(openai.FunctionDefinitionParam{
			Name:        "weather",
			Description: openai.String("The weather of a city."),
			Parameters: openai.FunctionParameters{
				"type":       "object",
				"properties": map[string]any{"city": map[string]string{"type": "string"}},
				"required":   []string{"city"},
			},
		}),
	}
	answer, err := client.Chat.Completions.New(context.Background(), params)
	if err != nil {
		return nil, err
	}
	message := answer.Choices[0].Message
	return told{"text": message.Content, "calls": len(message.ToolCalls)}, nil
}

func picture() (told, error) {
	content, err := os.ReadFile(os.Getenv("PICTURE"))
	if err != nil {
		return nil, err
	}
	url := "data:image/png;base64," + base64.StdEncoding.EncodeToString(content)
	return ask(openai.UserMessage([]openai.ChatCompletionContentPartUnionParam{
		openai.TextContentPart("What is this?"),
		openai.ImageContentPart(openai.ChatCompletionContentPartImageImageURLParam{URL: url}),
	}))
}

func abort() (told, error) {
	params := request(1500, count)
	chunks := client.Chat.Completions.NewStreaming(context.Background(), params)
	pieces := 0
	for pieces < 5 && chunks.Next() {
		pieces++
	}
	if err := chunks.Err(); err != nil {
		return nil, err
	}
	// Closes the connection, which ends the work on the model's server.
	return told{"pieces": pieces}, chunks.Close()
}

var scenarios = map[string]func() (told, error){
	"models":    func() (told, error) { return models() },
	"plain":     func() (told, error) { return ask(count) },
	"stream":    stream,
	"usage":     usage,
	"tools":     tools,
	"picture":   picture,
	"wrong_key": func() (told, error) { return models(option.WithAPIKey("sk-nobody-has-this-key-0123456789")) },
	"too_large": func() (told, error) { return ask(openai.UserMessage(strings.Repeat("x", 31*MiB))) },
	"abort":     abort,
	"impatient": func() (told, error) { return ask(count, option.WithRequestTimeout(2*time.Second)) },
}

func main() {
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		answer, err := scenarios[lines.Text()]()
		if err != nil {
			answer = told{"error": fmt.Sprintf("%T", err)}
			var refused *openai.Error
			if errors.As(err, &refused) {
				answer["status"] = refused.StatusCode
			}
		}
		line, err := json.Marshal(answer)
		if err != nil {
			panic(err)
		}
		fmt.Println(string(line))
	}
}
