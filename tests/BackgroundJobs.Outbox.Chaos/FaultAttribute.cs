namespace BackgroundJobs.Outbox.Chaos;

/// <summary>Says which fault of the catalogue (docs/reliability.md, which is made from these) a test or a chaos fault injects, and what holds.</summary>
/// <param name="id">E: enqueue and transactions, W: workers, P: PostgreSQL and pooler, D: data, S: schedules, X: security; two digits.</param>
/// <param name="injected">What is done.</param>
/// <param name="held">What is true nevertheless.</param>
[AttributeUsage(AttributeTargets.Method, AllowMultiple = true)]
internal sealed class FaultAttribute(string id, string injected, string held) : Attribute
{
    public string Id => id;

    public string Injected => injected;

    public string Held => held;
}
