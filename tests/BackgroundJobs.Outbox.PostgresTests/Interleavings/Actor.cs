namespace BackgroundJobs.Outbox.PostgresTests.Interleavings;

// One who acts on the queue in a session of its own: statements of the library in transactions whose beginnings and ends are steps too,
// because what others may do in between is the question.
internal sealed record Actor(string Name, params IReadOnlyList<Func<Session, Task>> Steps)
{
    // Who its session is: a person with JobAdmin, or the application (TestRoles).
    public bool IsOperator { get; init; }

    public override string ToString() => Name;
}
