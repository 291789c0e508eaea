using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Nodes;

namespace BackgroundJobs.Outbox.Postgres;

/// <summary>
/// Limits of one queue, on all workers together, and of the groups in it (<see cref="EnqueueOptions.Group"/>). In a queue with limits, also with
/// <c>new QueueLimits()</c>, which sets none, groups take turns: one with a million jobs does not keep another one's ten waiting.
/// </summary>
public sealed record QueueLimits
{
    private const int MaxConcurrency = 10_000;

    private const int MaxRate = 1_000_000;

    /// <summary>How many jobs of the queue may run at a time: 1 to 10,000. Default: as many as the workers have room for.</summary>
    public int? Concurrency { get; init; }

    /// <summary>How many jobs of the queue may start in a period. Default: any number.</summary>
    public RateLimit? Rate { get; init; }

    /// <summary>How many jobs of each group may run at a time: 1 to 10,000. Default: any number. Jobs without a group count as one group.</summary>
    public int? GroupConcurrency { get; init; }

    /// <summary>How many jobs of each group may start in a period. Default: any number.</summary>
    public RateLimit? GroupRate { get; init; }

    /// <summary>In which order the jobs of a group run. Default: <see cref="GroupOrder.Any"/>. The others run one at a time.</summary>
    public GroupOrder GroupOrder { get; init; }

    // Tells two declarations apart.
    internal string Fingerprint => Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(new JsonArray(
        Concurrency, Rate?.Jobs, Rate?.Period.Ticks, GroupConcurrency, GroupRate?.Jobs, GroupRate?.Period.Ticks, $"{GroupOrder}").ToJsonString())));

    internal void Check(string queue)
    {
        List<string> faults = [];
        Between(Concurrency, MaxConcurrency, nameof(Concurrency));
        Between(GroupConcurrency, MaxConcurrency, nameof(GroupConcurrency));
        RateBetween(Rate, nameof(Rate));
        RateBetween(GroupRate, nameof(GroupRate));
        if (!Enum.IsDefined(GroupOrder))
            faults.Add($"GroupOrder is {GroupOrder} (Any, Fifo or Strict)");
        else if (GroupOrder != GroupOrder.Any && GroupConcurrency is > 1)
            faults.Add($"GroupConcurrency is {GroupConcurrency} and GroupOrder {GroupOrder} (which is one at a time)");
        if (faults.Count > 0)
            throw new OutboxException($"The limits of queue '{queue}' cannot be used: {string.Join("; ", faults)}. Correct these.");

        void Between(int? value, int most, string name)
        {
            if (value < 1 || value > most)
                faults.Add($"{name} is {value} (1 to {most:N0})");
        }

        void RateBetween(RateLimit? rate, string name)
        {
            Between(rate?.Jobs, MaxRate, name + ".Jobs");
            if (rate is not null && (rate.Period < TimeSpan.FromSeconds(1) || rate.Period > TimeSpan.FromDays(31)))
                faults.Add($"{name}.Period is {rate.Period} (a second to 31 days)");
        }
    }
}
