using System.Text.RegularExpressions;

namespace BackgroundJobs.Outbox;

// The names that reach SQL identifiers, NOTIFY payloads, metrics and URLs: one narrow alphabet for all of them.
internal static partial class JobName
{
    public const int MaxGroup = 200;

    public static void CheckKind(string? kind) => Check(kind, "Job kind", "Change the Kind of the job type.");

    public static void CheckQueue(string? queue) => Check(queue, "Queue name", "Rename the queue.");

    public static void CheckSchedule(string? schedule) => Check(schedule, "Schedule name", "Rename the schedule.");

    public static void CheckStep(string? step) => Check(step, "Step name", "Rename the step.");

    public static void CheckSchema(string? schema)
    {
        if (schema is null || !SchemaPattern().IsMatch(schema))
            throw new OutboxException(
                $"Schema name '{Shown(schema)}' cannot be used: it goes into SQL as it is, so it must be 1 to 41 characters of a-z, 0-9 and _, "
                + "and start with a letter or _. Set OutboxOptions.Schema to such a name.");
    }

    // Null: it is one. A key of the application's: any text that PostgreSQL can store, and its indexes hold.
    public static string? WhyNoGroup(string? group) => group switch
    {
        null or "" => "is empty",
        { Length: > MaxGroup } => $"has {group.Length} characters",
        _ when !JobJson.SafeStringConverter.IsStorable(group) => "holds a NUL or half a surrogate pair",
        _ => null,
    };

    public static void CheckGroup(string? group)
    {
        if (WhyNoGroup(group) is { } fault)
            throw new InvalidJobException($"Group '{Shown(group)}' cannot be used: it {fault}. Use 1 to {MaxGroup} characters that PostgreSQL can store.");
    }

    public static bool IsQueue(string? queue) => queue is not null && Pattern().IsMatch(queue);

    private static void Check(string? name, string what, string remedy)
    {
        if (name is null || !Pattern().IsMatch(name))
            throw new InvalidJobException(
                $"{what} '{Shown(name)}' cannot be used: it must be 1 to 63 characters of a-z, 0-9 and _ . : - and start with a letter or a digit. {remedy}");
    }

    // A name from outside may hold anything: what goes into a message is bounded and printable.
    public static string Shown(string? name) => name is null
        ? "(null)"
        : new string([.. name.Take(80).Select(c => char.IsControl(c) || char.IsSurrogate(c) ? '?' : c)]);

    [GeneratedRegex(@"\A[a-z0-9][a-z0-9_.:-]{0,62}\z", RegexOptions.CultureInvariant)]
    private static partial Regex Pattern();

    [GeneratedRegex(@"\A[a-z_][a-z0-9_]{0,40}\z", RegexOptions.CultureInvariant)]
    private static partial Regex SchemaPattern();
}
