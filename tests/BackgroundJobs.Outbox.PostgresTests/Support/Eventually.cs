namespace BackgroundJobs.Outbox.PostgresTests.Support;

// Waits for a fact, never for a time.
internal static class Eventually
{
    public static Task TrueAsync(Func<bool> fact, string what, double seconds = 20) => TrueAsync(() => Task.FromResult(fact()), what, seconds);

    public static async Task TrueAsync(Func<Task<bool>> fact, string what, double seconds = 20)
    {
        var started = TimeProvider.System.GetTimestamp();
        while (!await fact())
        {
            if (TimeProvider.System.GetElapsedTime(started).TotalSeconds > seconds)
                Assert.Fail($"Not within {seconds} s: {what}.");
            await Task.Delay(TimeSpan.FromMilliseconds(10), TimeProvider.System, TestContext.Current.CancellationToken);
        }
    }
}
