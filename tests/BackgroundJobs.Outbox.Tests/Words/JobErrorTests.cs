using System.Text.Json;

namespace BackgroundJobs.Outbox.Tests.Words;

public sealed class JobErrorTests
{
    [Fact]
    public void An_exception_is_kept_with_type_messages_and_place()
    {
        JobError error;
        try
        {
            throw new InvalidOperationException("outer", new TimeoutException("inner"));
        }
        catch (InvalidOperationException e)
        {
            error = JobError.From(e);
        }

        Assert.Equal("System.InvalidOperationException", error.Type);
        Assert.Equal("outer ---> TimeoutException: inner", error.Message);
        Assert.Contains(nameof(An_exception_is_kept_with_type_messages_and_place), error.Stack, StringComparison.Ordinal);
    }

    [Fault("X19", "exceptions of any length", "2,000 characters of message and 6,000 of stack are kept")]
    [Fact]
    public void It_is_bounded_whatever_was_thrown()
    {
        Exception nested = new InvalidOperationException(new string('x', 1_000));
        for (var i = 0; i < 100; i++)
            nested = new InvalidOperationException(new string('y', 1_000), nested);
        var error = JobError.From(nested);
        Assert.InRange(error.Message.Length, 2_000, 2_002);
        Assert.EndsWith("…", error.Message, StringComparison.Ordinal);
        Assert.Null(JobError.From(new InvalidOperationException("never thrown")).Stack);
        Assert.InRange(JobError.Of(new string('t', 5_000), "m").Type.Length, 300, 302);
        Assert.InRange(JobError.From(new FarThrown()).Stack!.Length, 6_000, 6_002);
    }

    [Fact]
    public void What_postgres_cannot_store_is_taken_out_and_the_rest_stays()
    {
        var error = JobError.Of("ti\0meout", "a\0b \ud83c c 🎉");
        Assert.Equal(("timeout", "ab \ufffd c 🎉"), (error.Type, error.Message));
        using var json = JsonDocument.Parse(error.ToJson(3));
        Assert.Equal(3, json.RootElement.GetProperty("attempt").GetInt32());
        Assert.Equal("timeout", json.RootElement.GetProperty("type").GetString());
        Assert.Equal("ab \ufffd c 🎉", json.RootElement.GetProperty("message").GetString());
        Assert.False(json.RootElement.TryGetProperty("stack", out _));
    }

    [Fact]
    public void The_cut_never_falls_into_a_surrogate_pair() =>
        Assert.All(Enumerable.Range(1995, 10), length => Assert.DoesNotContain('\ufffd', JobError.Of("t", new string('x', length) + "🎉🎉🎉").ToJson(1)));

    private sealed class FarThrown : Exception
    {
        public override string StackTrace => new('s', 100_000);
    }
}
