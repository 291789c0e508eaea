using System.Diagnostics;

namespace BackgroundJobs.Outbox.Testing;

// The only way in which a cluster ends. A small shell, not our child, reads a pipe that we hold open. It comes to the end of the pipe when we
// close it, and also when we are gone: the kernel closes it on exit, Ctrl-C, SIGTERM, SIGKILL and a crash alike, with no handler of ours.
// Then it stops the server and removes the folder. (The kernel's "signal me when my parent dies" is about the thread that started the
// child, and a pool thread may end at any time.)
internal sealed class Watchdog : IAsyncDisposable
{
    // $1 folder, $2 lock file, the rest: pg_ctl, behind the change of user. Detached from our process tree and, where setsid exists, from our
    // session, so that what kills those does not kill it. Its error output is closed, or whoever reads ours would wait for it.
    private const string Detach = """
        exec 3<&0 2>/dev/null
        trap '' HUP INT QUIT TERM
        script=$1; shift
        $(command -v setsid) sh -c "$script" watchdog "$@" <&3 3<&- &
        """;

    // "immediate", because nothing of the data is kept. A server that does not stop even so (frozen by a test) is killed. Again, when the owner
    // died in the middle of making the cluster: what it had started may still be writing.
    private const string Watch = """
        trap '' HUP INT QUIT TERM
        folder=$1; lock=$2; shift 2
        cat >/dev/null
        tries=0
        while [ -e "$folder" ] && [ $tries -lt 20 ]; do
            [ $tries -eq 0 ] || sleep 1
            tries=$((tries + 1))
            if ! "$@" -D "$folder/data" -m immediate -w -t 10 stop >/dev/null 2>&1 && "$@" -D "$folder/data" status >/dev/null 2>&1; then
                "$@" kill KILL "$(head -n 1 "$folder/data/postmaster.pid")" >/dev/null 2>&1
            fi
            rm -rf "$folder"
        done
        [ -e "$folder" ] || rm -f "$lock"
        """;

    // Longer than the script's own patience with one frozen server, so that Dispose returns in any case.
    private static readonly TimeSpan patience = TimeSpan.FromSeconds(40);

    private readonly Process process;

    private Watchdog(Process process) => this.process = process;

    public static Watchdog Start(string folder, string lockFile, IReadOnlyList<string> pgCtl)
    {
        var start = OperatingSystem.IsWindows()
            ? ProgramRun.StartInfo(["cmd.exe"])
            : ProgramRun.StartInfo(["sh", "-c", Detach, "watchdog", Watch, folder, lockFile, .. pgCtl]);
        if (OperatingSystem.IsWindows())
            start.Arguments = WindowsArguments(folder, lockFile, pgCtl[0]);
        start.RedirectStandardInput = true;
        start.RedirectStandardOutput = true;
        return new Watchdog(Process.Start(start)!);
    }

    // The end of its output is its end: it is no child of ours whose exit could be awaited.
    public async ValueTask DisposeAsync()
    {
        process.StandardInput.Close();
        try
        {
            await process.StandardOutput.ReadToEndAsync().WaitAsync(patience, TimeProvider.System).ConfigureAwait(false);
        }
        catch (TimeoutException)
        {
            // The lock file is still there: the next start tries again.
        }

        process.Dispose();
    }

    // findstr reads to the end of the pipe; ping is how cmd waits a second. Its hidden console of its own gets no Ctrl-C.
    private static string WindowsArguments(string folder, string lockFile, string pgCtl) =>
        $"/d /s /c \"findstr \"^\" >nul & \"{pgCtl}\" -D \"{folder}\\data\" -m immediate -w -t 10 stop >nul 2>&1 & " +
        $"for /l %i in (1,1,20) do @if exist \"{folder}\" (rmdir /s /q \"{folder}\" 2>nul & if exist \"{folder}\" ping -n 2 127.0.0.1 >nul) & " +
        $"if not exist \"{folder}\" del \"{lockFile}\" >nul 2>&1\"";
}
