namespace BackgroundJobs.Outbox.Tests.Words;

public sealed class EnqueueOptionsTests
{
    public static TheoryData<EnqueueOptions, string> Bad => new()
    {
        { new() { Queue = "" }, "Queue name ''" },
        { new() { Queue = "Upper" }, "Queue name 'Upper'" },
        { new() { Queue = "with space" }, "1 to 63 characters" },
        { new() { Queue = "-first" }, "start with a letter or a digit" },
        { new() { Queue = "a\n" }, "Queue name 'a?'" },
        { new() { Queue = new string('q', 64) }, "1 to 63 characters" },
        { new() { Priority = 0 }, "priority 0 is out of range" },
        { new() { Priority = 5 }, "Use 1 (first) to 4 (last)" },
        { new() { MaxAttempts = 0 }, "max attempts 0 is out of range" },
        { new() { MaxAttempts = 1001 }, "Use 1 to 1000" },
        { new() { RunAt = DateTimeOffset.UnixEpoch, Delay = TimeSpan.Zero }, "both RunAt and Delay" },
        { new() { RunAt = DateTimeOffset.MinValue }, "outside what the database can hold" },
        { new() { RunAt = DateTimeOffset.MaxValue }, "outside what the database can hold" },
        { new() { Delay = TimeSpan.FromTicks(-1) }, "Use zero to 100 years" },
        { new() { Delay = TimeSpan.MaxValue }, "Use zero to 100 years" },
        { new() { Id = Guid.Empty }, "its id is the empty Guid" },
        { new() { Unique = UniqueJob.WhileWaiting("") }, "its unique key has 0 characters" },
        { new() { Unique = UniqueJob.Replace(null!) }, "its unique key has 0 characters" },
        { new() { Unique = UniqueJob.WhileUnfinished(new string('k', 201)) }, "its unique key has 201 characters" },
        { new() { Unique = UniqueJob.WhileWaiting("a\0") }, "holds a NUL" },
        { new() { Unique = UniqueJob.WhileWaiting("\ud800") }, "half a surrogate pair" },
        { new() { Unique = UniqueJob.Within("k", TimeSpan.Zero) }, "the period 00:00:00 of its unique key is out of range" },
        { new() { Unique = UniqueJob.Throttle("k", TimeSpan.FromDays(366)) }, "Use a microsecond to 365 days" },
        { new() { Unique = UniqueJob.Debounce("k", TimeSpan.FromSeconds(2), TimeSpan.FromSeconds(1)) }, "it is to be debounced for 00:00:01 at most" },
        { new() { Unique = UniqueJob.Debounce("k", TimeSpan.FromSeconds(2)), Delay = TimeSpan.Zero }, "RunAt or Delay is set" },
    };

    [Fault("D14", "attempts, priorities and delays out of range", "refused")]
    [Theory]
    [MemberData(nameof(Bad), DisableDiscoveryEnumeration = true)]
    public void A_wish_that_cannot_be_met_is_refused_with_what_to_do(EnqueueOptions options, string message)
    {
        var error = Assert.Throws<InvalidJobException>(() => NewJob.Create(new Plain(1), options));
        Assert.Contains(message, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Wishes_at_their_limits_are_met()
    {
        var job = NewJob.Create(
            new Plain(1),
            new() { Queue = new string('q', 63), Priority = 4, MaxAttempts = 1000, Delay = TimeSpan.FromDays(36_500), Headers = new Dictionary<string, string> { ["a"] = "b" } });
        Assert.Equal((63, (short)4, (short)1000, "{\"a\":\"b\"}"), (job.Queue.Length, job.Priority, job.MaxAttempts, job.Headers));
    }

    [Fact]
    public void Without_wishes_the_librarys_defaults_hold()
    {
        var job = NewJob.Create(new Plain(1));
        Assert.Equal(("default", (short)2, (short)20, (DateTime?)null, (TimeSpan?)null, (string?)null), (job.Queue, job.Priority, job.MaxAttempts, job.RunAt, job.Delay, job.Headers));
        Assert.Equal(("plain", "{\"number\":1}", 7), (job.Kind, job.Args, job.Id.Version));
    }

    [Fact]
    public void A_call_overrides_its_kind_one_wish_at_a_time()
    {
        var kinds = NewJob.Create(new Patient(1));
        Assert.Equal(("slow", (short)4, (short)3, (TimeSpan?)TimeSpan.FromHours(1)), (kinds.Queue, kinds.Priority, kinds.MaxAttempts, kinds.Delay));

        var own = NewJob.Create(new Patient(1), new() { Priority = 1, RunAt = new DateTimeOffset(2030, 1, 1, 2, 0, 0, TimeSpan.FromHours(2)) });
        Assert.Equal(("slow", (short)1, (short)3, (TimeSpan?)null), (own.Queue, own.Priority, own.MaxAttempts, own.Delay));
        Assert.Equal(new DateTime(2030, 1, 1, 0, 0, 0, DateTimeKind.Utc), own.RunAt);
    }

    [Fact]
    public void A_unique_job_is_blocked_and_its_rule_is_in_seconds()
    {
        var job = NewJob.Create(new Plain(1), new() { Unique = UniqueJob.Debounce(new string('k', 200), TimeSpan.FromMilliseconds(1500), TimeSpan.FromDays(365)) });
        Assert.Equal(("{\"rule\":\"debounce\",\"delay\":\"1.5 s\",\"max\":\"31536000 s\"}", 200, (short)-2), (job.UniqueRule, job.UniqueKey!.Length, job.StoredPriority));
        Assert.Equal("{\"rule\":\"waiting\"}", NewJob.Create(new Plain(1), new() { Unique = UniqueJob.WhileWaiting("7") }).UniqueRule);
        Assert.Equal("{\"rule\":\"throttle\",\"period\":\"0.000001 s\"}", NewJob.Create(new Plain(1), new() { Unique = UniqueJob.Throttle("7", TimeSpan.FromMicroseconds(1)) }).UniqueRule);
    }

    [Fact]
    public void A_kind_that_is_no_name_is_refused() =>
        Assert.Contains("Job kind 'No Name'", Assert.Throws<InvalidJobException>(() => NewJob.Create(new Unnamed())).Message, StringComparison.Ordinal);

    private sealed record Plain(int Number) : IJob
    {
        public static string Kind => "plain";
    }

    private sealed record Patient(int Number) : IJob
    {
        public static string Kind => "patient";

        public static EnqueueOptions Defaults => new() { Queue = "slow", Priority = 4, MaxAttempts = 3, Delay = TimeSpan.FromHours(1) };
    }

    private sealed record Unnamed : IJob
    {
        public static string Kind => "No Name";
    }
}
