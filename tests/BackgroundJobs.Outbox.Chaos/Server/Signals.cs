using System.Diagnostics;
using System.Runtime.InteropServices;

namespace BackgroundJobs.Outbox.Chaos.Server;

internal static partial class Signals
{
    public const int Kill = 9;
    public const int Interrupt = 2;
    public const int Terminate = 15;

    public static int Stop => OperatingSystem.IsMacOS() ? 17 : 19;

    public static int Continue => OperatingSystem.IsMacOS() ? 19 : 18;

    // False: there is no such process any more.
    public static bool Send(int processId, int signal) => KillProcess(processId, signal) == 0;

    public static bool Send(this Process process, int signal) => !process.HasExited && Send(process.Id, signal);

    [LibraryImport("libc", EntryPoint = "kill")]
    private static partial int KillProcess(int processId, int signal);
}
