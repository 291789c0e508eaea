using static BackgroundJobs.Outbox.PostgresTests.Interleavings.GroupSituation;
using static BackgroundJobs.Outbox.PostgresTests.Interleavings.Situation;

namespace BackgroundJobs.Outbox.PostgresTests.Interleavings;

// Who acts on groups.
internal static class GroupActors
{
    public static readonly Actor ClaimB = Claim("claim B", B);

    public static readonly Actor ClaimC = Claim("claim C", C);

    public static readonly Actor FinishA = Finish("A", Held, HeldToken);

    // Its process dies before it tells the group.
    public static readonly Actor FinishUntoldA = new(
        "finish A and die",
        Begin(async s =>
        {
            if (await EndAsync(s, Held, HeldToken, "completed", "ended"))
                s.Note(() => Of(s).IsUntold = true);
        }),
        Commit);

    public static readonly Actor DieA = new("die A", Begin(s => EndAsync(s, Held, HeldToken, "dead", "died")), Then(FreeAsync), Commit);

    public static readonly Actor ReleaseA = new("release A", Begin(s => GiveAsync(s, null)), Then(FreeAsync), Commit);

    public static readonly Actor PushBackA = new(
        "push back A",
        Begin(s => s.RunAsync("push_back", ("queues", new[] { "lane" }), ("groups", new[] { "g" }), ("delays", new[] { 3_600_000_000L }))),
        Then(s => GiveAsync(s, 3_600_000_000L)),
        Then(FreeAsync),
        Commit);

    public static readonly Actor Rescue = new(
        "rescue",
        Begin(async s =>
        {
            await s.RunAsync("mark_dead_workers");
            Of(s).IsRescued = (await s.RunAsync("rescue_jobs", ("max_crashes", 3))).Count > 0;
            if (Of(s).IsRescued)
                s.Note(() => Of(s).Say("returned", Held));
            await SayCancelledAsync(s);
            await s.RunAsync("forget_dead_workers");
        }),
        Then(s => Of(s).IsRescued ? FreeAsync(s) : Task.CompletedTask),
        Commit);

    // The one that is next.
    public static readonly Actor CancelFirst = new(
        "cancel first",
        Begin(async s =>
        {
            await s.RunAsync("cancel_waiting_jobs", ("ids", new[] { First }), ("states", new[] { "waiting" }), ("after", Guid.Empty), ("limit", 100L), ("reason", "an operator"));
            await SayCancelledAsync(s);
        }),
        Commit) { IsOperator = true };

    // One that waits, or that a claim takes meanwhile, and one that runs, or is given back meanwhile.
    public static readonly Actor AskFirst = Ask("ask first to stop", First);

    public static readonly Actor AskHeld = Ask("ask held to stop", Held);

    // Those that wait.
    public static readonly Actor FinishCancelled = new("finish cancelled", Begin(FinishCancelledAsync), Then(s => Of(s).HasCancelled ? FreeAsync(s) : Task.CompletedTask), Commit);

    public static readonly Actor Enqueue = new(
        "enqueue",
        Begin(s => s.SqlAsync($$"""INSERT INTO outbox.jobs (id, kind, args, queue, job_group) VALUES ('{{New}}', 'a', '{}', 'lane', 'g')""")),
        Commit);

    public static readonly Actor PauseGroup = new(
        "pause group", Begin(s => s.RunAsync("pause_group", ("queue", "lane"), ("group", "g"), ("reason", "an operator"))), Commit) { IsOperator = true };

    public static readonly Actor ResumeGroup = new(
        "resume group",
        Begin(async s =>
        {
            if ((await s.RunAsync("resume_group", ("queue", "lane"), ("group", "g"))).Count > 0)
                s.Note(() => Of(s).Say("resumed"));
        }),
        Commit) { IsOperator = true };

    public static readonly Actor PauseAndResume = new("pause and resume", PauseGroup.Steps[0], Then(ResumeGroup.Steps[0], begins: false), Commit) { IsOperator = true };

    public static readonly Actor SetLimits = new(
        "set limits",
        Begin(s => s.RunAsync(
            "set_limits",
            ("queue", "lane"),
            ("limited", true),
            ("concurrency", 1),
            ("group_concurrency", Of(s).Order == "any" ? 1 : DBNull.Value),
            ("group_order", Of(s).Order))),
        Commit) { IsOperator = true };

    public static readonly Actor SetGroup = new(
        "set group",
        Begin(s => s.RunAsync("set_group", ("queue", "lane"), ("group", "g"), ("weight", 2.0), ("concurrency", 1))),
        Commit) { IsOperator = true };

    // As a worker does, with its pause between the two looks.
    public static readonly Actor LookForMissed = new(
        "look for missed groups",
        Begin(async s => Of(s).IsLookedFor = (await s.RunAsync("look_for_groups", ("queues", new[] { "lane" }))).Count > 0),
        Then(async s => Of(s).Missed = Of(s).IsLookedFor ? await MissedAsync(s) : []),
        Then(async s =>
        {
            Of(s).Missed = [.. Of(s).Missed.Intersect(await MissedAsync(s))];
            await s.CommitAsync();
            await s.BeginAsync();
            foreach (var (group, _) in Of(s).Missed)
                await FreeAsync(s, group);
        }),
        Commit);

    public static readonly Actor Forget = new("forget groups", Begin(s => s.RunAsync("forget_groups")), Commit);

    public static readonly IReadOnlyList<Actor> All =
    [
        ClaimB, ClaimC, FinishA, FinishUntoldA, DieA, ReleaseA, PushBackA, Rescue, CancelFirst, AskFirst, AskHeld, FinishCancelled, Enqueue, SetLimits, SetGroup,
        PauseAndResume, LookForMissed, Forget,
    ];

    // Of one attempt, which ends once. C beside another than B is what B is.
    public static bool CannotMeet(Actor one, Actor other) =>
        one == other || (OfHeld(one) && OfHeld(other)) || (other == ClaimC && one != ClaimB) || one == ClaimC;

    public static bool Claims(Actor actor) => actor == ClaimB || actor == ClaimC;

    private static bool OfHeld(Actor actor) => actor == FinishA || actor == FinishUntoldA || actor == DieA || actor == ReleaseA || actor == PushBackA;

    public static Actor Finish(string who, Guid job, Guid token) => new(
        $"finish {who}", Begin(s => EndAsync(s, job, token, "completed", "ended")), Then(s => FreeAsync(s, job == Alone ? "k" : "g")), Commit);

    private static Actor Ask(string name, Guid job) => new(
        name,
        Begin(async s =>
        {
            await s.RunAsync("request_cancel", ("ids", new[] { job }), ("states", new[] { "scheduled", "waiting", "running" }), ("after", Guid.Empty), ("limit", 100L), ("patience", "5s"));
            s.Note(() => Of(s).Say("asked", job));
        }),
        Commit) { IsOperator = true };

    private static async Task FinishCancelledAsync(Session s)
    {
        Of(s).HasCancelled = (await s.RunAsync("finish_cancelled_jobs")).Count > 0;
        await SayCancelledAsync(s);
    }

    private static async Task SayCancelledAsync(Session s)
    {
        foreach (var row in await s.SqlAsync("SELECT id FROM outbox.job_history WHERE state = 'cancelled'"))
            s.Note(() => Of(s).SayOnce("cancelled", (Guid)row[0]));
    }

    private static async Task<List<(string Group, string Version)>> MissedAsync(Session s) =>
        [.. (await s.RunAsync("list_missed_groups", ("queue", "lane"))).Select(row => ((string)row[0], (string)row[1]))];

    private static async Task<bool> EndAsync(Session s, Guid job, Guid token, string state, string word)
    {
        await s.UseKeyAsync();
        var lost = await s.RunAsync(
            "finish_jobs",
            ("ids", new[] { job }),
            ("lease_tokens", new[] { token }),
            ("states", new[] { state }),
            ("history", new short[] { 0 }),
            ("errors", new string?[] { null }),
            ("cursors", new string?[] { null }),
            ("results", new string?[] { null }),
            ("limited", true));
        if (lost.Count == 0)
            s.Note(() => Of(s).Say(word, job));
        return lost.Count == 0;
    }

    // As a worker does: it looks for what is new, and claims, in one transaction.
    private static Actor Claim(string name, Guid worker) => new(
        name,
        Begin(s => s.RunAsync("file_groups", ("queue", "lane"), ("after_run_at", new DateTime[4]), ("after_id", new Guid[4]), ("limit", 1000))),
        async s =>
        {
            var jobs = await s.RunAsync(
                "claim_in_turn",
                ("queue", "lane"),
                ("limit", 10),
                ("suspects", false),
                ("kinds", new[] { "a" }),
                ("worker", worker),
                ("epoch", 0),
                ("lease_token", Guid.NewGuid()));
            foreach (var job in jobs)
                s.Note(() => Of(s).Say("claimed", (Guid)job[0]));
        },
        Commit);

    private static async Task GiveAsync(Session s, long? delay)
    {
        var given = await s.RunAsync(
            "reschedule_jobs",
            ("ids", new[] { Held }),
            ("lease_tokens", new[] { HeldToken }),
            ("delays", new[] { delay }),
            ("failed", new short[] { 0 }),
            ("errors", new string?[] { null }),
            ("cursors", new string?[] { null }));
        if (given.Count > 0)
            s.Note(() => Of(s).Say("returned", Held));
    }

    private static Task<List<object[]>> FreeAsync(Session s) => FreeAsync(s, "g");

    private static Task<List<object[]>> FreeAsync(Session s, string group) => s.RunAsync("free_groups", ("queues", new[] { "lane" }), ("groups", new[] { group }));

    private static GroupSituation Of(Session session) => (GroupSituation)session.Situation;

    private static Func<Session, Task> Begin(Func<Session, Task> first) => async session =>
    {
        await session.BeginAsync();
        await first(session);
    };

    private static Func<Session, Task> Then(Func<Session, Task> next, bool begins = true) => async session =>
    {
        await session.CommitAsync();
        if (begins)
            await session.BeginAsync();
        await next(session);
    };

    private static Task Commit(Session session) => session.CommitAsync();
}
