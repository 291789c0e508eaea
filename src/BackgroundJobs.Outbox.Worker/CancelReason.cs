namespace BackgroundJobs.Outbox.Worker;

// Why a handler's token was cancelled. The first reason stands.
internal enum CancelReason
{
    None,
    Timeout,
    Operator,
    Stop,
    LeaseLost,
}
