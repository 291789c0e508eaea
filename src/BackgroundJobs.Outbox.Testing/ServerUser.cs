using System.Globalization;

namespace BackgroundJobs.Outbox.Testing;

// Who runs the server. PostgreSQL refuses root, so root becomes somebody else first; everybody else stays who he is.
internal sealed record ServerUser(string? Name, int UserId, int GroupId, IReadOnlyList<string> Switch)
{
    private static readonly string[] candidates = OperatingSystem.IsMacOS() ? ["postgres", "_postgres", "nobody"] : ["postgres", "nobody"];

    public static async Task<ServerUser> FindAsync(SearchPlaces places, CancellationToken cancellationToken)
    {
        // On Windows pg_ctl itself drops an administrator's rights.
        if (OperatingSystem.IsWindows() || !Environment.IsPrivilegedProcess)
            return new ServerUser(null, 0, 0, []);

        foreach (var name in candidates)
        {
            if (await IdAsync("-u", name, cancellationToken).ConfigureAwait(false) is { } user
                && await IdAsync("-g", name, cancellationToken).ConfigureAwait(false) is { } group)
            {
                return new ServerUser(name, user, group, SwitchTo(name, user, group, places));
            }
        }

        throw new PostgresServerException(
            $"PostgreSQL does not run as root, and this machine has none of the users {string.Join(", ", candidates)}. Run as an ordinary user, or add one of them.");
    }

    public IReadOnlyList<string> Command(params IEnumerable<string> command) => [.. Switch, .. command];

    public async Task GiveAsync(string folder, CancellationToken cancellationToken)
    {
        if (Name is null)
            return;
        var run = await ProgramRun.ToEndAsync(["chown", "-R", $"{UserId}:{GroupId}", folder], cancellationToken).ConfigureAwait(false);
        if (run.ExitCode != 0)
            throw new PostgresServerException($"The folder {folder} cannot be given to the user {Name}: {run.Output}");
    }

    internal static IReadOnlyList<string> SwitchTo(string name, int user, int group, SearchPlaces places)
    {
        if (OperatingSystem.IsMacOS())
            return ["sudo", "-n", "-u", name, "--"];
        // BusyBox has a setpriv that cannot change the user.
        if (places.FindProgram("setpriv") is { } setpriv && File.ResolveLinkTarget(setpriv, returnFinalTarget: true)?.Name != "busybox")
        {
            return
            [
                setpriv, string.Create(CultureInfo.InvariantCulture, $"--reuid={user}"),
                string.Create(CultureInfo.InvariantCulture, $"--regid={group}"), "--init-groups", "--",
            ];
        }

        // The shell is named because nobody's own refuses to run anything.
        return ["su", "-s", "/bin/sh", "-c", "exec \"$0\" \"$@\"", "--", name];
    }

    private static async Task<int?> IdAsync(string what, string name, CancellationToken cancellationToken)
    {
        var run = await ProgramRun.ToEndAsync(["id", what, name], cancellationToken).ConfigureAwait(false);
        return run.ExitCode == 0 && int.TryParse(run.Output, CultureInfo.InvariantCulture, out var id) ? id : null;
    }
}
