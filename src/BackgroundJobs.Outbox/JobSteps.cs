using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace BackgroundJobs.Outbox;

// What an attempt knows of the steps that were done, by it or before it. As the database keeps them: {"charge": {"attempt": 1, "result": ..., "at": ...}}.
internal sealed class JobSteps(ClaimedJob job, OutboxOptions options)
{
    private readonly Lock gate = new();
    private readonly Dictionary<string, int> sizes = new(StringComparer.Ordinal);
    private Dictionary<string, byte[]>? results;

    public bool Has(string name)
    {
        JobName.CheckStep(name);
        lock (gate)
            return Read().ContainsKey(name);
    }

    public bool TryGet<T>(string name, out T? result)
    {
        JobName.CheckStep(name);
        byte[]? json;
        lock (gate)
        {
            if (!Read().TryGetValue(name, out json))
            {
                result = default;
                return false;
            }
        }

        var plain = JobEncryption.Decrypt(json, job.Id, KeyOf(name), options.Encryption);
        result = plain.AsSpan().SequenceEqual("null"u8) ? default : JobJson.Read<T>(plain, options);
        return true;
    }

    // The step as it is to be stored; throws InvalidJobException before anything is written.
    public string Write<T>(string name, T? result)
    {
        JobName.CheckStep(name);
        var json = result is null ? "null"u8.ToArray() : JobJson.Write(result, $"Job '{job.Kind}': the results of its step '{name}'", options);
        lock (gate)
        {
            Read();
            var bytes = sizes.Where(each => each.Key != name).Sum(each => each.Value) + json.Length;
            if (bytes > options.MaxArgsBytes)
                throw new InvalidJobException(
                    $"Job '{job.Kind}': the results of its steps are {bytes} bytes of JSON with step '{name}', more than the {options.MaxArgsBytes} allowed. Keep a key in them, not the data.");

            // Counted now: of one that is kept in the handler's transaction nobody here hears whether it was committed.
            sizes[name] = json.Length;
        }

        var text = Encoding.UTF8.GetString(json);
        return new JsonObject { ["attempt"] = job.Attempt, ["result"] = JsonNode.Parse(options.Encryption?.Encrypt(text, job.Id, KeyOf(name)) ?? text) }.ToJsonString();
    }

    public void Done(string name, string step)
    {
        lock (gate)
            Add(name, JsonDocument.Parse(step).RootElement);
    }

    private Dictionary<string, byte[]> Read()
    {
        if (results is not null)
            return results;
        results = new(StringComparer.Ordinal);
        if (job.Steps is { } text)
        {
            using var document = JsonDocument.Parse(text);
            foreach (var step in document.RootElement.EnumerateObject())
                Add(step.Name, step.Value);
        }

        return results;
    }

    private void Add(string name, JsonElement step)
    {
        var json = Encoding.UTF8.GetBytes(step.GetProperty("result").GetRawText());
        Read()[name] = json;
        sizes[name] = json.Length;
    }

    // No kind has a space in it.
    private string KeyOf(string name) => $"{job.Kind} step {name}";
}
