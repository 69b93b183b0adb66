#!/usr/bin/perl
# Runs commands in the virtual machine, over a virtio-serial port: needs no network there. Only what Debian's perl-base has.
#
#   channel.pl serve PORT        in the virtual machine: obeys what comes through PORT, one command at a time
#   channel.pl ask SOCKET CMD... on the machine: runs CMD there, with our standard input, as if it were here
#
# A message is a line of an ID and words in hex. Either end may go at any moment, the guest by a reboot: half a line of
# one that has gone is no message, and an answer with another's ID is not for us.
use strict;
use warnings;
use Fcntl;
use IO::Socket::UNIX;
use POSIX ();

sub message { join(' ', shift, map { 'x' . unpack('H*', $_) } @_) . "\n" }

sub words {
    my ($id, @words) = split / /, shift;
    return ($id, map { /^x((?:[0-9a-f]{2})*)$/ ? pack('H*', $1) : return } @words);
}

sub send_all {
    my ($to, $text) = @_;
    while (length $text) {
        my $sent = syswrite($to, $text);
        if (defined $sent) { substr($text, 0, $sent) = '' }
        else { select(undef, undef, undef, 0.02) }
    }
}

sub ask {
    my ($path, @command) = @_;
    my $socket = IO::Socket::UNIX->new($path) or die "channel.pl: the virtual machine is not running: $path: $!\n";
    my $input = do { local $/; <STDIN> } // '';
    my $id = "$$-" . time;
    send_all($socket, "\n" . message($id, $input, @command));
    while (my $line = <$socket>) {
        chomp $line;
        my ($to, @answer) = words($line);
        next unless defined $to && $to eq $id && @answer == 3;
        print STDOUT $answer[0];
        print STDERR $answer[1];
        exit $answer[2];
    }
    die "channel.pl: the virtual machine has ended\n";
}

sub serve {
    my ($path) = @_;
    my ($port, $buffer) = (undef, '');
    select(undef, undef, undef, 0.05) until sysopen($port, $path, O_RDWR);
    while (1) {
        # at once and empty while nobody is at the other end
        sysread($port, $buffer, 65536, length $buffer) or select(undef, undef, undef, 0.02);
        while ($buffer =~ s/^(.*)\n//) {
            my ($id, $input, @command) = words($1);
            next unless @command;
            my $gone;
            my @answer = obey($input, \@command, sub {
                # who asks says no more until the answer: what can be read is somebody else's, or they have gone
                vec(my $ready = '', fileno $port, 1) = 1;
                if (!select($ready, undef, undef, 0.01)) { $gone = undef; return 1 }
                my $length = length $buffer;
                return 0 if sysread($port, $buffer, 65536, $length);
                # for a moment the kernel may still speak of the one before, who has gone
                select(undef, undef, undef, 0.02);
                $gone //= time;
                return time - $gone < 3;
            });
            send_all($port, "\n" . message($id, @answer)) if @answer;
        }
    }
}

# Returns output, errors and exit code. They go to files: a child left in the background does not keep us waiting.
sub obey {
    my ($input, $command, $go_on) = @_;
    my ($in, $out, $err);
    open($_, '+>', undef) or die "channel.pl: no temporary file: $!\n" for $in, $out, $err;
    send_all($in, $input);
    sysseek($in, 0, 0);
    my $pid = fork() // die "channel.pl: fork: $!\n";
    if (!$pid) {
        POSIX::setsid();
        POSIX::dup2(fileno $in, 0), POSIX::dup2(fileno $out, 1), POSIX::dup2(fileno $err, 2);
        { exec { $command->[0] } @$command }
        print STDERR "channel.pl: $command->[0]: $!\n";
        POSIX::_exit(127);
    }
    until (waitpid($pid, POSIX::WNOHANG)) {
        next if $go_on->();
        kill 'KILL', -$pid;
        waitpid($pid, 0);
        return;
    }
    my $code = $? & 127 ? 128 + ($? & 127) : $? >> 8;
    return ((map { local $/; seek($_, 0, 0); scalar(<$_>) // '' } $out, $err), $code);
}

my ($verb, @rest) = @ARGV;
if (($verb // '') eq 'serve' && @rest == 1) { serve(@rest) }
elsif (($verb // '') eq 'ask' && @rest > 1) { ask(@rest) }
else { die "usage: channel.pl serve PORT | channel.pl ask SOCKET CMD...\n" }
