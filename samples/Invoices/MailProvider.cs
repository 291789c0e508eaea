namespace Invoices;

// Stands for the world outside: of one domain's mails it takes three, then none for a second.
internal sealed class MailProvider(TimeProvider clock)
{
    private static readonly TimeSpan RetryAfter = TimeSpan.FromSeconds(1);

    private readonly Lock gate = new();
    private readonly HashSet<Guid> sent = [];
    private int taken;
    private long? fullSince;

    // How long to wait (429); null: it is sent. A mail that was sent is not sent twice: its sender may have died before he could write that down.
    public TimeSpan? Send(string email, Guid idempotencyKey)
    {
        lock (gate)
        {
            if (!email.EndsWith("@busy.example", StringComparison.Ordinal) || sent.Contains(idempotencyKey))
                return null;
            if (fullSince is { } since && clock.GetElapsedTime(since) < RetryAfter)
                return RetryAfter;
            if (taken == 3)
            {
                (taken, fullSince) = (0, clock.GetTimestamp());
                return RetryAfter;
            }

            taken++;
            sent.Add(idempotencyKey);
            return null;
        }
    }
}
