namespace BackgroundJobs.Outbox.Postgres;

// What one claim asks of one queue. Positions are per priority, 1 to 4, exclusive below and inclusive above.
internal sealed record ClaimRequest(
    string Queue,
    int Limit,
    Guid WorkerId,
    string[] Kinds,
    DateTime[] AfterRunAt,
    Guid[] AfterId,
    DateTime[] Until,
    bool Suspects = false)
{
    public static DateTime[] Beginning { get; } = [DateTime.MinValue, DateTime.MinValue, DateTime.MinValue, DateTime.MinValue];

    public static DateTime[] End { get; } = [DateTime.MaxValue, DateTime.MaxValue, DateTime.MaxValue, DateTime.MaxValue];

    public static Guid[] NoId { get; } = new Guid[4];

    public static ClaimRequest Everything(string queue, int limit, Guid workerId, string[] kinds, bool suspects = false) =>
        new(queue, limit, workerId, kinds, Beginning, NoId, End, suspects);
}
