//! A client of the frames, as tests need one.

use flate2::{Compress, Compression, FlushCompress};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::{
    dictionary::dictionary,
    frame::{self, Frame, Parser},
};

/// The client's end of a connection.
pub(crate) struct Client {
    io: DuplexStream,
    deflate: Compress,
    begun: bool,
    parser: Parser,
    next: u32,
}

impl Client {
    pub(crate) fn new(io: DuplexStream) -> Self {
        // The compressor takes no dictionary: it is made to have seen it.
        let mut deflate = Compress::new(Compression::best(), false);
        let mut seen = Vec::with_capacity(8192);
        deflate
            .compress_vec(&dictionary(), &mut seen, FlushCompress::Sync)
            .unwrap();
        Client {
            io,
            deflate,
            begun: false,
            parser: Parser::default(),
            next: 1,
        }
    }

    /// Opens a stream.
    pub(crate) async fn open(&mut self, headers: &[(&str, &str)]) -> u32 {
        let stream = self.next;
        self.next += 2;
        let mut text = u32::try_from(headers.len()).unwrap().to_be_bytes().to_vec();
        for part in headers.iter().flat_map(|(n, v)| [n, v]) {
            text.extend_from_slice(&u32::try_from(part.len()).unwrap().to_be_bytes());
            text.extend_from_slice(part.as_bytes());
        }
        let mut block = Vec::with_capacity(8192);
        self.deflate
            .compress_vec(&text, &mut block, FlushCompress::Sync)
            .unwrap();
        let mut head = [&stream.to_be_bytes()[..], &[0; 6]].concat();
        if !self.begun {
            head.extend([0x78, 0xbb, 0xe3, 0xc6, 0xa7, 0xc2]);
            self.begun = true;
        }
        let syn_stream = frame::control(1, 0, &[&head, &block]);
        self.io.write_all(&syn_stream).await.unwrap();
        stream
    }

    pub(crate) async fn send(&mut self, stream: u32, data: &[u8], last: bool) {
        let frame = frame::data(stream, data, last);
        self.io.write_all(&frame).await.unwrap();
    }

    /// What came on each of the streams, when all of them have ended.
    pub(crate) async fn read<const N: usize>(&mut self, streams: [u32; N]) -> [Vec<u8>; N] {
        let mut data = [const { Vec::new() }; N];
        let mut open = N;
        while open > 0 {
            let frame = loop {
                if let Some(frame) = self.parser.next().unwrap() {
                    break frame;
                }
                let mut buffer = [0; 4096];
                let n = self.io.read(&mut buffer).await.unwrap();
                assert_ne!(n, 0, "the connection ended before its streams");
                self.parser.push(&buffer[..n]);
            };
            if let Frame::Data {
                stream,
                data: chunk,
                last,
            } = frame
                && let Some(at) = streams.iter().position(|s| *s == stream)
            {
                data[at].extend_from_slice(&chunk);
                open -= usize::from(last);
            }
        }
        data
    }
}
