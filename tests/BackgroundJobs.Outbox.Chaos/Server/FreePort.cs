using System.Net;
using System.Net.Sockets;

namespace BackgroundJobs.Outbox.Chaos.Server;

// Free when it was looked for.
internal static class FreePort
{
    public static int Find()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }
}
