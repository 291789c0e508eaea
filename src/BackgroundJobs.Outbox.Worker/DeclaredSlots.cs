using System.Text.Json.Nodes;

namespace BackgroundJobs.Outbox.Worker;

// Slots as they were declared: of one queue, or of several that share them, in this order or, where there are weights, by these.
internal sealed record DeclaredSlots(int Concurrency, IReadOnlyList<string> Queues, IReadOnlyList<int>? Weights = null)
{
    private const int MaxWeight = 1000;

    public void Check(List<string> faults)
    {
        var what = Queues switch
        {
            [] => "no queue",
            [var name] => $"queue '{name}'",
            _ => $"queues '{string.Join("', '", Queues)}'",
        };
        if (Queues.Count == 0)
            faults.Add($"{Concurrency} slots are shared by no queue (one or more)");
        if (Concurrency is < 1 or > 10_000)
            faults.Add($"{what} has a concurrency of {Concurrency} (1 to 10,000)");
        for (var at = 0; at < Weights?.Count; at++)
        {
            if (Weights[at] is < 1 or > MaxWeight)
                faults.Add($"queue '{Queues[at]}' has a weight of {Weights[at]} (1 to {MaxWeight:N0})");
        }
    }

    public override string ToString() =>
        $"{string.Join(Weights is null ? " > " : ", ", Queues.Select((name, at) => Weights is null ? name : $"{name} x{Weights[at]}"))} ({Concurrency})";

    // What outbox.workers says of each of its queues: the number of slots, or that and who else has them.
    public JsonNode Describe(int at)
    {
        if (Queues.Count == 1)
            return Concurrency;
        JsonObject shared = new() { ["slots"] = Concurrency, ["sharedBy"] = new JsonArray([.. Queues.Select(name => (JsonNode)name)]) };
        if (Weights is null)
            shared["place"] = at + 1;
        else
            shared["weight"] = Weights[at];
        return shared;
    }
}
