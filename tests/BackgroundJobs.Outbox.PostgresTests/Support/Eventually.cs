using System.Runtime.CompilerServices;

namespace BackgroundJobs.Outbox.PostgresTests;

// Waits for something that another process, or the server, is about to do, and that nobody announces.
public static class Eventually
{
    private static readonly TimeSpan patience = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan interval = TimeSpan.FromMilliseconds(20);

    public static async Task TrueAsync(
        Func<Task<bool>> condition, TimeSpan? timeout = null, [CallerArgumentExpression(nameof(condition))] string what = "")
    {
        var started = TimeProvider.System.GetTimestamp();
        while (!await condition())
        {
            if (TimeProvider.System.GetElapsedTime(started) > (timeout ?? patience))
                Assert.Fail($"Not true within {(timeout ?? patience).TotalSeconds} s: {what}");
            await Task.Delay(interval, TimeProvider.System, TestContext.Current.CancellationToken);
        }
    }

    public static Task TrueAsync(
        Func<bool> condition, TimeSpan? timeout = null, [CallerArgumentExpression(nameof(condition))] string what = "") =>
        TrueAsync(() => Task.FromResult(condition()), timeout, what);
}
