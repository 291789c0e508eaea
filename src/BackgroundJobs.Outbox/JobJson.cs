using System.Buffers;
using System.Collections.ObjectModel;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;

namespace BackgroundJobs.Outbox;

// Arguments and cursors to JSON and back. One set of options for both ends, so that what was enqueued can be read.
internal static class JobJson
{
    public static string WriteArgs<TJob>(TJob job, string kind, OutboxOptions options)
    {
        var json = Write(job, $"Job '{kind}' cannot be enqueued: its arguments", options);
        if (json.Length > options.MaxArgsBytes)
            throw new InvalidJobException(
                $"Job '{kind}' cannot be enqueued: its arguments are {json.Length} bytes of JSON, more than the {options.MaxArgsBytes} allowed, "
                + "and every claim would carry them. Store the data in a table of your own and pass its key.");
        if (json[0] != (byte)'{')
            throw new InvalidJobException(
                $"Job '{kind}' cannot be enqueued: its arguments are no JSON object. Use a record or class with properties, so that fields can be added later.");
        return Encoding.UTF8.GetString(json);
    }

    public static string? WriteHeaders(IReadOnlyDictionary<string, string>? headers, string kind)
    {
        if (headers is null || headers.Count == 0)
            return null;

        var buffer = new ArrayBufferWriter<byte>(256);
        using (var writer = new Utf8JsonWriter(buffer))
        {
            writer.WriteStartObject();
            foreach (var (name, value) in headers)
            {
                if (value is null || !SafeStringConverter.IsStorable(name) || !SafeStringConverter.IsStorable(value))
                    throw new InvalidJobException(
                        $"Job '{kind}' cannot be enqueued: one of its headers is null, or holds a NUL or half a surrogate pair, which PostgreSQL cannot store. Clean the text first.");
                writer.WriteString(name, value);
            }

            writer.WriteEndObject();
        }

        if (buffer.WrittenCount > JobDefaults.MaxHeadersBytes)
            throw new InvalidJobException(
                $"Job '{kind}' cannot be enqueued: its headers are {buffer.WrittenCount} bytes of JSON, more than the {JobDefaults.MaxHeadersBytes} allowed. Pass the data in the arguments.");
        return Encoding.UTF8.GetString(buffer.WrittenSpan);
    }

    public static byte[] Write<T>(T value, string subject, OutboxOptions options)
    {
        byte[] json;
        try
        {
            json = JsonSerializer.SerializeToUtf8Bytes(value, TypeInfo<T>(options));
        }
        catch (Exception e) when (e is JsonException or NotSupportedException or InvalidOperationException or ArgumentException)
        {
            throw new InvalidJobException($"{subject} do not serialise to JSON. {e.Message} Use plain data: records, numbers, texts, lists.", e);
        }

        if (HasNul(json))
            throw new InvalidJobException($"{subject} hold a NUL character, which PostgreSQL cannot store. Clean the text first.");
        return json;
    }

    public static T Read<T>(ReadOnlySpan<byte> json, OutboxOptions options) =>
        JsonSerializer.Deserialize(json, TypeInfo<T>(options)) ?? throw new JsonException("The JSON is null.");

    // Of text that came from PostgreSQL; its jsonb has checked it.
    public static IReadOnlyDictionary<string, string> ReadHeaders(string? json)
    {
        if (json is null)
            return ReadOnlyDictionary<string, string>.Empty;
        using var document = JsonDocument.Parse(json);
        return document.RootElement.EnumerateObject().ToDictionary(
            each => each.Name,
            each => each.Value.ValueKind == JsonValueKind.String ? each.Value.GetString()! : each.Value.GetRawText());
    }

    private static JsonTypeInfo<T> TypeInfo<T>(OutboxOptions options) => (JsonTypeInfo<T>)options.Json.GetTypeInfo(typeof(T));

    // \u0000 is the only way JSON can say NUL; a backslash before it that is itself escaped makes it plain text.
    private static bool HasNul(ReadOnlySpan<byte> json)
    {
        for (var from = 0; ;)
        {
            var found = json[from..].IndexOf("\\u0000"u8);
            if (found < 0)
                return false;
            var at = from + found;
            var backslashes = 1;
            while (at - backslashes >= 0 && json[at - backslashes] == (byte)'\\')
                backslashes++;
            if (backslashes % 2 == 1)
                return true;
            from = at + 1;
        }
    }

    // The writer would turn half a surrogate pair into U+FFFD without a word: the job would run with another text than it was given.
    internal sealed class SafeStringConverter : JsonConverter<string>
    {
        public static bool IsStorable(string text)
        {
            for (var i = 0; i < text.Length; i++)
            {
                if (text[i] == '\0' || char.IsLowSurrogate(text[i]))
                    return false;
                if (char.IsHighSurrogate(text[i]) && (++i == text.Length || !char.IsLowSurrogate(text[i])))
                    return false;
            }

            return true;
        }

        public override string? Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) => reader.GetString();

        public override void Write(Utf8JsonWriter writer, string value, JsonSerializerOptions options) => writer.WriteStringValue(Checked(value));

        public override string ReadAsPropertyName(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) => reader.GetString()!;

        public override void WriteAsPropertyName(Utf8JsonWriter writer, string value, JsonSerializerOptions options) =>
            writer.WritePropertyName(Checked(value));

        private static string Checked(string value) => IsStorable(value)
            ? value
            : throw new JsonException("A text holds a NUL or half a surrogate pair, which PostgreSQL cannot store.");
    }
}
