namespace BackgroundJobs.Outbox;

// Whether the handler's own transaction carries the completion, and whether it is known to have committed.
internal sealed class TransactionalCompletion
{
    private volatile bool requested;
    private volatile bool confirmed;

    public bool Requested => requested;

    // False does not mean that it was rolled back: an ambient or foreign transaction tells nobody. The fence then tells.
    public bool Confirmed => confirmed;

    public void Request() => requested = true;

    public void Confirm() => confirmed = true;
}
